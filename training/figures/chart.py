"""Line charts, drawn with Pillow: curves over one axis, with its ends, its ticks and a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from training.figures.lettering import LINE, text_width, write

Point = tuple[float, float]

WIDTH, HEIGHT, MARGIN = 720, 320, 24
COLOURS = ("#1f5fa8", "#c8501e", "#2f8f4e", "#7b4fa6", "#8a6d1d", "#555555")


@dataclass(frozen=True)
class Chart:
    """A title and curves of points (x, y) by name; ticks: texts below places of x, else its ends."""

    title: str
    curves: Mapping[str, Sequence[Point]]
    ticks: Mapping[float, str] = field(default_factory=dict)

    def place(self, point: Point) -> tuple[int, int]:
        """Pixel (x, y) of a point."""
        (left, right), (low, high) = self._ends
        x = MARGIN + 64 + (point[0] - left) / (right - left) * (WIDTH - 2 * MARGIN - 96)
        y = HEIGHT - MARGIN - 2 * LINE - (point[1] - low) / (high - low) * (HEIGHT - 2 * MARGIN - 4 * LINE)
        return round(x), round(y)

    def draw(self) -> Image.Image:
        """The chart on white ground."""
        image = Image.new("RGB", (max(WIDTH, text_width(self.title) + 2 * MARGIN), HEIGHT), "white")
        canvas = ImageDraw.Draw(image)
        write(canvas, (MARGIN, MARGIN), self.title, anchor="la")
        (left, right), (low, high) = self._ends
        for y in (low, high):
            canvas.line([self.place((left, y)), self.place((right, y))], fill="#bbbbbb")
            write(canvas, (MARGIN + 56, self.place((left, y))[1]), f"{y:.3g}", anchor="rm")
        for x, text in (self.ticks or {left: f"{left:g}", right: f"{right:g}"}).items():
            write(canvas, (self.place((x, low))[0], HEIGHT - MARGIN - LINE), text, anchor="mm")
        at = MARGIN
        for number, (name, points) in enumerate(self.curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            places = [self.place(point) for point in points]
            canvas.line(places, fill=colour, width=2)
            for x, y in places if self.ticks else ():
                canvas.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
            write(canvas, (at, HEIGHT - LINE), name, anchor="la", fill=colour)
            at += text_width(name) + MARGIN
        return image

    @property
    def _ends(self) -> tuple[Point, Point]:
        """The least and the largest x and y, apart from each other."""
        points = [point for points in self.curves.values() for point in points]
        ends = [(min(values), max(values)) for values in zip(*points, strict=True)]
        (left, right), (low, high) = [(low, high if high > low else low + 1) for low, high in ends]
        return (left, right), (low, high)
