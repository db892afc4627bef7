//! Real event loops, frozen and brought back ten times in a row while they work. Each checks its own
//! sequence numbers: an event that is lost stops it, and one too many is noticed.

use std::path::Path;
use std::process::ExitCode;

use dormouse_testkit::program::{self, Program};

mod lacks;

/// A program with nothing special about it.
const PLAIN: Program = Program {
    name: "",
    tools: &["bash"],
    needs: &["epoll"],
    options: &[],
    files: &[],
    prepare: "",
    script: "",
};

const LOOPS: &[Program] = &[
    // Edge-triggered, with an eventfd to wake it; five threads, each with a loop.
    Program { name: "mio", script: "exec \"$EXAMPLES/mio_loop\"", ..PLAIN },
    // libuv: three processes on pipes, with timers.
    Program {
        name: "libuv",
        tools: &["node"],
        files: &[
            (
                "write.js",
                r#"
let next = 0;
const timer = setInterval(() => {
    for (let i = 0; i < 200; i++) process.stdout.write(`${next++}\n`);
    if (next >= 200000) clearInterval(timer);
}, 3);
"#,
            ),
            (
                "relay.js",
                r#"
process.stdin.on('data', (bytes) => {
    if (!process.stdout.write(bytes)) {
        process.stdin.pause();
        process.stdout.once('drain', () => process.stdin.resume());
    }
});
"#,
            ),
            (
                "check.js",
                r#"
let next = 0, rest = '', ticks = 0;
const timer = setInterval(() => ticks++, 5);
process.stdin.on('data', (bytes) => {
    const lines = (rest + bytes).split('\n');
    rest = lines.pop();
    for (const line of lines) if (Number(line) !== next++) throw new Error(`${line} instead of ${next - 1}`);
});
process.stdin.on('end', () => {
    clearInterval(timer);
    if (ticks === 0) throw new Error('no timer fired');
    console.log(next);
});
"#,
            ),
        ],
        script: "set -o pipefail; node write.js | node relay.js | node check.js",
        ..PLAIN
    },
    // Go's own: edge-triggered, one for all goroutines.
    Program {
        name: "go",
        tools: &["go"],
        files: &[(
            "loop.go",
            r#"
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"
)

func main() {
	var group sync.WaitGroup
	counts := make([]uint64, 12)
	for i := range counts {
		r, w, err := os.Pipe()
		if err != nil { panic(err) }
		group.Add(2)
		go func() {
			defer group.Done()
			defer w.Close()
			var word [8]byte
			for n := uint64(0); n < 40000; n++ {
				binary.LittleEndian.PutUint64(word[:], n)
				if _, err := w.Write(word[:]); err != nil { panic(err) }
				if n%40 == 0 { time.Sleep(time.Millisecond) }
			}
		}()
		go func() {
			defer group.Done()
			reader := bufio.NewReader(r)
			for next := uint64(0); ; next++ {
				var n uint64
				if err := binary.Read(reader, binary.LittleEndian, &n); err != nil { counts[i] = next; return }
				if n != next { panic(fmt.Sprint(n, " instead of ", next)) }
			}
		}()
	}
	group.Wait()
	fmt.Println(counts)
}
"#,
        )],
        prepare: "HOME=$PWD GOCACHE=$PWD/cache GO111MODULE=off go build loop.go",
        script: "exec ./loop",
        ..PLAIN
    },
    // A selector loop that wakes itself by a pair of sockets, with children on pipes.
    Program {
        name: "asyncio",
        tools: &["python3"],
        needs: &["epoll", "sockets"],
        files: &[(
            "loop.py",
            r#"
import asyncio, os, sys

COUNT = 4000

async def numbers(fd, counts, place):
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
    expected = 0
    while line := await reader.readline():
        assert int(line) == expected, (line, expected)
        expected += 1
    counts[place] = expected

async def write(fd):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(fd, "wb"))
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    for n in range(COUNT):
        writer.write(b"%d\n" % n)
        if n % 10 == 0:
            await writer.drain()
            await asyncio.sleep(0.005)
    writer.close()

async def wakes(counts):
    for n in range(200):
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(0.01)
        counts[-1] = n + 1

async def main():
    pipes = [os.pipe() for _ in range(8)]
    counts = [0] * 9
    jobs = [numbers(r, counts, i) for i, (r, _) in enumerate(pipes)] + [write(w) for _, w in pipes]
    await asyncio.gather(wakes(counts), *jobs)
    print(counts)

asyncio.run(main())
"#,
        )],
        script: "exec python3 loop.py",
        ..PLAIN
    },
];

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    program::main(scenario, LOOPS, lacks::LACKS)
}
