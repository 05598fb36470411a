/* Emulates the AMX instructions that relaxc generates, on processors that lack them.
 *
 * Loading this library installs a handler of SIGILL that decodes the faulting instruction, does what Intel's manual
 * says (Architecture Instruction Set Extensions Programming Reference, chapter 3), and goes on behind it. What the
 * processor would refuse, such as tiles whose shapes do not fit, ends the process with a message.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} config_t;

typedef union {
    uint8_t bytes[16][64];
    float floats[16][16];
    int32_t ints[16][16];
    uint16_t halves[16][32];
} tile_t;

static __thread config_t config;
static __thread tile_t tiles[8];
static long executed, configured;

long amx_emulator_executed(void) { return executed; }
long amx_emulator_configured(void) { return configured; }

static void refuse(const char *reason) {
    fprintf(stderr, "amx_emulator: %s\n", reason);
    abort();
}

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

typedef struct {
    int reg, rm, vvvv, prefix, opcode, is_register, length;
    uint8_t *start; /* the first row in memory */
    int64_t stride;
} instruction_t;

static int64_t value_of(const greg_t *state, int number) { return (int64_t)state[registers[number]]; }

/* ModRM, SIB and displacement; the index register of a tile's memory operand is its stride. */
static void decode_memory(const uint8_t *code, const greg_t *state, int x, int b, instruction_t *out) {
    const uint8_t *next = code;
    int mod = *next >> 6, rm = *next & 7;
    int64_t base = 0;
    next++;
    out->stride = 0;
    if (rm == 4) {
        int sib = *next++, index = ((sib >> 3) & 7) | x << 3, basis = (sib & 7) | b << 3;
        if (index != 4) out->stride = value_of(state, index) * (1 << (sib >> 6));
        if ((sib & 7) == 5 && mod == 0) {
            base = *(const int32_t *)next;
            next += 4;
        } else {
            base = value_of(state, basis);
        }
    } else if (rm == 5 && mod == 0) {
        base = (int64_t)(intptr_t)(next + 4) + *(const int32_t *)next;
        next += 4;
    } else {
        base = value_of(state, rm | b << 3);
    }
    if (mod == 1) base += *(const int8_t *)next, next += 1;
    if (mod == 2) base += *(const int32_t *)next, next += 4;
    out->start = (uint8_t *)(intptr_t)base;
    out->length = (int)(next - code);
}

static int decode(const uint8_t *code, const greg_t *state, instruction_t *out) {
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84)) return 0; /* VEX.128.0F38.W0 */
    int r = !(code[1] & 0x80), x = !(code[1] & 0x40), b = !(code[1] & 0x20);
    out->vvvv = ~(code[2] >> 3) & 15;
    out->prefix = code[2] & 3; /* 0: none, 1: 66, 2: F3, 3: F2 */
    out->opcode = code[3];
    out->reg = ((code[4] >> 3) & 7) | r << 3;
    out->rm = (code[4] & 7) | b << 3;
    out->is_register = code[4] >> 6 == 3;
    out->length = 1;
    if (!out->is_register) decode_memory(code + 4, state, x, b, out);
    out->length += 4;
    return 1;
}

static void configure(const uint8_t *memory) {
    __atomic_add_fetch(&configured, 1, __ATOMIC_RELAXED);
    memcpy(&config, memory, 64);
    memset(tiles, 0, sizeof tiles);
    if (config.palette != 1 || config.start_row != 0) refuse("palette 1 from row 0 is all that is emulated");
    for (int i = 0; i < 16; i++) {
        if (i > 7 && (config.rows[i] || config.colsb[i])) refuse("palette 1 has eight tiles");
        if (config.rows[i] > 16 || config.colsb[i] > 64) refuse("a tile has at most 16 rows of 64 bytes");
        if (!config.rows[i] != !config.colsb[i]) refuse("a tile needs both rows and columns");
    }
}

static void require(int tile) {
    if (tile > 7 || config.palette != 1 || !config.rows[tile]) refuse("a tile is used that is not configured");
}

static void move_tile(const instruction_t *in, int load) {
    require(in->reg);
    int rows = config.rows[in->reg], bytes = config.colsb[in->reg];
    if (load) memset(&tiles[in->reg], 0, sizeof(tile_t));
    for (int row = 0; row < rows; row++) {
        uint8_t *memory = in->start + row * in->stride, *own = tiles[in->reg].bytes[row];
        memcpy(load ? own : memory, load ? memory : own, bytes);
    }
}

static float widen(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void multiply(const instruction_t *in) {
    int c = in->reg, a = in->rm, b = in->vvvv;
    require(a), require(b), require(c);
    if (a == b || b == c || a == c) refuse("a product needs three different tiles");
    if (config.rows[c] != config.rows[a] || config.colsb[c] != config.colsb[b] ||
        config.colsb[a] != config.rows[b] * 4)
        refuse("the shapes of a product's tiles do not fit");
    int is_float = in->opcode == 0x5C;
    if (is_float && in->prefix != 2) refuse("of the products of floats, tdpbf16ps is all that is emulated");
    int signed_a = in->prefix == 3 || in->prefix == 2, signed_b = in->prefix == 3 || in->prefix == 1;
    for (int m = 0; m < config.rows[c]; m++)
        for (int k = 0; k < config.colsb[a] / 4; k++)
            for (int n = 0; n < config.colsb[c] / 4; n++) {
                if (is_float) {
                    for (int i = 0; i < 2; i++)
                        tiles[c].floats[m][n] +=
                            widen(tiles[a].halves[m][2 * k + i]) * widen(tiles[b].halves[k][2 * n + i]);
                } else {
                    for (int i = 0; i < 4; i++) {
                        uint8_t p = tiles[a].bytes[m][4 * k + i], q = tiles[b].bytes[k][4 * n + i];
                        tiles[c].ints[m][n] += (signed_a ? (int8_t)p : p) * (signed_b ? (int8_t)q : q);
                    }
                }
            }
}

static int execute(const instruction_t *in) {
    switch (in->opcode) {
    case 0x49:
        if (in->is_register && in->prefix == 3) { /* tilezero */
            require(in->reg);
            memset(&tiles[in->reg], 0, sizeof(tile_t));
        } else if (in->is_register && in->prefix == 0) { /* tilerelease */
            memset(&config, 0, sizeof config);
            memset(tiles, 0, sizeof tiles);
        } else if (!in->is_register && in->prefix == 0) { /* ldtilecfg */
            configure(in->start);
        } else if (!in->is_register && in->prefix == 1) { /* sttilecfg */
            memcpy(in->start, &config, 64);
        } else {
            return 0;
        }
        return 1;
    case 0x4B: /* tileloadd F2, tileloaddt1 66, tilestored F3 */
        if (in->is_register || in->prefix == 0) return 0;
        move_tile(in, in->prefix != 2);
        return 1;
    case 0x5C:
    case 0x5E:
        if (!in->is_register) return 0;
        multiply(in);
        return 1;
    }
    return 0;
}

static void handle(int signal_number, siginfo_t *info, void *context) {
    greg_t *state = ((ucontext_t *)context)->uc_mcontext.gregs;
    instruction_t in;
    (void)info;
    if (!decode((const uint8_t *)(intptr_t)state[REG_RIP], state, &in) || !execute(&in)) {
        signal(signal_number, SIG_DFL); /* not ours: the instruction faults again */
        return;
    }
    __atomic_add_fetch(&executed, 1, __ATOMIC_RELAXED);
    state[REG_RIP] += in.length;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, NULL);
}
