"""Ready-made settings: the released full-size model and a compact autoencoder for small pictures."""

from training.anomalymoe.model.config import AnomalyMoEConfig, ConvConfig, GlobalConfig

_DROPOUT = 0.2

OFFICIAL_AUTOENCODER = (
    ConvConfig(channels=32, kernel=4, stride=2, padding=1),
    ConvConfig(channels=64, kernel=4, stride=2, padding=1),
    ConvConfig(channels=128, kernel=4, stride=2, padding=1),
    ConvConfig(channels=128, kernel=3, padding=1),
    ConvConfig(channels=128, kernel=9, stride=7, padding=1),
    ConvConfig(channels=128, kernel=9, stride=7, padding=1, relu=False),
    *(
        ConvConfig(channels=128, kernel=4, padding=2, upsample=size, dropout=_DROPOUT)
        for size in (3, 7, 15, 31, 63, 31)
    ),
    ConvConfig(channels=128, kernel=3, padding=1, upsample="grid"),
    ConvConfig(channels="width", kernel=3, padding=1, relu=False),
)

OFFICIAL_STUDENT = (
    ConvConfig(channels=256, kernel=3, padding=1, pool=2),
    ConvConfig(channels=512, kernel=3, padding=1, pool=7),
    ConvConfig(channels=512, kernel=1),
    ConvConfig(channels=512, kernel=3, padding=1),
    ConvConfig(channels="width", kernel=3, padding=1),
    ConvConfig(channels="width", kernel=1, relu=False),
)


def official_config() -> AnomalyMoEConfig:
    """The released model: six experts a level, Top-3, autoencoder and student."""
    return AnomalyMoEConfig(global_=GlobalConfig(autoencoder=OFFICIAL_AUTOENCODER, student=OFFICIAL_STUDENT))


def compact_autoencoder(image_size: int, code: int = 32) -> tuple[ConvConfig, ...]:
    """Halve a square picture down to at most 4 pixels, squeeze it into a 1 x 1 code, and double it again.

    image_size: side in pixels, at least 16. About 103 k parameters for 192 pixels and width 96.
    Raises ValueError for a smaller picture.
    """
    if image_size < 16:
        raise ValueError(f"image_size must be at least 16 pixels, got {image_size}")
    sizes = [image_size // 2]
    while sizes[-1] > 4:
        sizes.append(sizes[-1] // 2)
    narrow = [min(8 * (i + 1), code) for i in range(len(sizes))]
    down = [ConvConfig(channels=channels, kernel=4, stride=2, padding=1) for channels in narrow]
    squeeze = ConvConfig(channels=code, kernel=sizes[-1], relu=False)
    up = [ConvConfig(channels=code, kernel=3, padding=1, upsample=size) for size in sizes[:-4:-1]]
    last = [
        ConvConfig(channels=code, kernel=3, padding=1, upsample="grid"),
        ConvConfig(channels="width", kernel=1, relu=False),
    ]
    return (*down, squeeze, *up, *last)
