"""Import OpenCV and report a missing system library in one line."""

from camcli.errors import CamcliError, one_line

__all__ = ["cv2"]

try:
    import cv2
except ImportError as error:  # a missing system library, not a missing package
    raise CamcliError(
        f"OpenCV cannot be loaded ({one_line(error)}): install the system library "
        "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0), or pip install "
        "opencv-python-headless in place of opencv-python"
    ) from None
