"""A clip as H.264 MP4, which all browsers play. Runs in a sandbox's child only."""

from collections.abc import Generator, Iterator
from fractions import Fraction

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from detect_svc.rendering.mp4_output import mp4_output
from detect_svc.rendering.output_file import OutputFile, Parts
from mesh.clip_reading import OpenClip, Picture, open_clip, quarter_turns
from mesh.processes.sandbox_child import InputRefused

# The package has the first, or none: x264 is under the GPL.
ENCODERS = ("libx264", "libopenh264")
OPTIONS = {"libx264": {"preset": "veryfast", "crf": "23"}}
# A fixed number, because the bytes depend on it.
THREADS = 2
LONGER_SIDE, SHORTER_SIDE = 1280, 720
SOUND_RATE, SOUND_SAMPLES, SOUND_BITS = 48_000, 1024, 96_000
MILLISECONDS = Fraction(1, 1000)
USUAL_FRAME_RATE, MAX_FRAME_RATE = 25, 60
PROGRESS_STEP = 0.01


def playable(path: str, max_pixels: int, file: OutputFile) -> Generator[float, None, Parts]:
    """Encodes the whole clip again, with at most 1280 x 720 pixels, or 720 x 1280. Raises InputRefused:
    NO_ENCODER, TOO_LARGE, and the refusal of the clip."""
    # Opened twice, because its video and its sound are not read at the same pace.
    with open_clip(path, max_pixels) as clip, open_clip(path, max_pixels) as sounding:
        pictures = clip.pictures()
        first = next(pictures, None)
        if first is None or clip.times.first_pts is None:
            raise InputRefused("no picture can be decoded", "NO_PICTURE")
        duration_ms = max(clip.header.duration_ms or 0, 1)
        with mp4_output(file) as container:
            video = VideoTrack(container, first, clip.header.frame_rate)
            sound = SoundTrack(container, sounding, clip.times.first_pts * clip.times.time_base)
            video.add(first)
            told = 0.0
            for picture in pictures:
                sound.add_until(picture.index - clip.times.shift_ms)
                video.add(picture)
                done = min(picture.index / duration_ms, 1.0)
                if done - told >= PROGRESS_STEP:
                    yield (told := done)
            sound.add_until(clip.times.last - clip.times.shift_ms)
            video.end()
            sound.end()
    return []


class VideoTrack:
    def __init__(self, container: OutputContainer, first: Picture, frame_rate: float) -> None:
        """Raises InputRefused NO_ENCODER."""
        encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
        if encoder is None:
            raise InputRefused("the installed package has no encoder for H.264", "NO_ENCODER")
        rate = min(round(frame_rate), MAX_FRAME_RATE) or USUAL_FRAME_RATE
        stream = container.add_stream(encoder, rate=rate, options=OPTIONS.get(encoder, {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = _fitted(first.frame.width, first.frame.height)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECONDS
        stream.codec_context.thread_count = THREADS
        if turns := quarter_turns(first.frame):
            stream.set_display_rotation(90 * turns)
        self._container, self._stream = container, stream

    def add(self, picture: Picture) -> None:
        stream = self._stream
        frame = picture.frame.reformat(stream.width, stream.height, "yuv420p", interpolation="BILINEAR")
        frame.pts, frame.time_base = picture.index, MILLISECONDS
        frame.pict_type = PictureType.NONE  # the decoder's would be kept
        self._container.mux(stream.encode(frame))

    def end(self) -> None:
        self._container.mux(self._stream.encode(None))


class SoundTrack:
    """AAC, if the clip has sound. `zero` is the time of the clip's first frame."""

    def __init__(self, container: OutputContainer, clip: OpenClip, zero: Fraction) -> None:
        self._container, self._clip, self._zero = container, clip, zero
        self._stream: AudioStream | None = None
        self._at_ms = -1.0
        if clip.sound is not None:
            layout = "mono" if clip.sound.codec_context.layout.nb_channels == 1 else "stereo"
            stream = container.add_stream("aac", rate=SOUND_RATE, layout=layout)
            assert isinstance(stream, AudioStream)
            stream.bit_rate = SOUND_BITS
            self._stream = stream
            self._resampler = AudioResampler("fltp", layout, SOUND_RATE, SOUND_SAMPLES)
        self._frames = self._decoded()

    def add_until(self, ms: int) -> None:
        """Adds the sound of the time before `ms` milliseconds after the first frame."""
        if self._stream is None:
            return
        while self._at_ms < ms and (frame := next(self._frames, None)) is not None:
            for samples in self._resampler.resample(frame):
                self._container.mux(self._stream.encode(samples))

    def end(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))

    def _decoded(self) -> Iterator[av.AudioFrame]:
        """In order, from the clip's first frame on. What cannot be decoded is left out."""
        for packet in self._clip.packets(with_sound=True):
            if packet.stream_index == self._clip.video.index:
                continue
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                if not isinstance(frame, av.AudioFrame) or frame.pts is None or not frame.time_base:
                    continue
                seconds = frame.pts * frame.time_base - self._zero
                if seconds < 0 or seconds * 1000 <= self._at_ms:
                    continue
                self._at_ms = float(seconds * 1000)
                frame.pts, frame.time_base = (
                    round(seconds * frame.sample_rate),
                    Fraction(1, frame.sample_rate),
                )
                yield frame


def _fitted(width: int, height: int) -> tuple[int, int]:
    """Even, as H.264 wants them."""
    scale = min(1.0, LONGER_SIDE / max(width, height), SHORTER_SIDE / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
