"""A video file from rendered frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from passerby.data.synthetic.photograph import Bytes
from passerby.errors import UserError


@contextmanager
def write_video(path: Path, *, rate: int, view: tuple[int, int]) -> Iterator[Callable[[Bytes], None]]:
    """Open a video file, and give a function that adds a frame (H, W, 3) uint8, RGB.

    Args:
        path: the file; its ending names the container.
        rate: frames per second.
        view: width and height.

    Raises:
        UserError: PyAV is not installed.

    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "a video file needs PyAV: pip install 'passerby[video]'; or leave out --frames video"
        ) from error
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height = view
        stream.pix_fmt = "yuv420p"

        def add(picture: Bytes) -> None:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

        yield add
        container.mux(stream.encode())
