"""What encoding and decoding a frame of 500 values costs, by msgspec structs and by the pydantic model, in one run.

    python -m bench.codec

Prints one JSON line: microseconds of processor time per frame.
"""

import argparse
import json
import time
from collections.abc import Callable

from contracts.codec import decode, encode
from contracts.v1.frame import Frame
from contracts.v1.frame_codec import FrameStruct, SampleStruct, decode_frame, encode_frame

TURNS = 300


def cost_us(work: Callable[[], object]) -> float:
    """Processor time of one call in microseconds, the best of five rounds."""
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(TURNS):
            work()
        rounds.append((time.process_time() - begun) / TURNS * 1e6)
    return min(rounds)


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sample = SampleStruct(t=1763692800123456, v={f"tag-{i}": i * 1.25 for i in range(500)})
    fast = FrameStruct(epoch=1763692800000000, seq=1, rev="3f2a9c0d41b7", samples=[sample])
    data = encode_frame(fast, topic="t")
    slow = decode(Frame, data, topic="t")
    figures = {
        "msgspec_encode_us": cost_us(lambda: encode_frame(fast, topic="t")),
        "pydantic_encode_us": cost_us(lambda: encode(slow, topic="t")),
        "msgspec_decode_us": cost_us(lambda: decode_frame(data, topic="t")),
        "pydantic_decode_us": cost_us(lambda: decode(Frame, data, topic="t")),
    }
    print(json.dumps({name: round(figure, 1) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
