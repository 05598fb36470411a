"""The kernel templates of the CPU target. A new one is a file beside this and an entry in ``TEMPLATES``."""

from .attention import AttentionTemplate
from .base import Template as Template
from .channel_concat import ChannelConcatTemplate
from .conv2d import Conv2dTemplate
from .depthwise_conv2d import DepthwiseConv2dTemplate
from .elementwise import ElementwiseTemplate
from .fallback import FallbackTemplate
from .matmul import MatmulTemplate
from .reduction import ReductionTemplate
from .separable_conv2d import SeparableConv2dTemplate
from .strassen_matmul import StrassenMatmulTemplate
from .tile_products import TileProductTemplate
from .transpose import TransposeTemplate
from .winograd_conv2d import WinogradConv2dTemplate

TEMPLATES: tuple[Template, ...] = (
    AttentionTemplate(),
    SeparableConv2dTemplate(),
    TileProductTemplate(),
    Conv2dTemplate(),
    WinogradConv2dTemplate(),
    DepthwiseConv2dTemplate(),
    MatmulTemplate(),
    StrassenMatmulTemplate(),
    ChannelConcatTemplate(),
    TransposeTemplate(),
    ElementwiseTemplate(),
    ReductionTemplate(),
    FallbackTemplate(),
)
"""In the order in which they are asked; the last takes everything."""
