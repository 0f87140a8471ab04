package lua

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"eventhooks/internal/hook"
)

// A frame is its length in four bytes, a kind, and fields: each a length in
// four bytes, and bytes. One frame goes to the child for each call, and some
// come back.
const (
	frameCall   = 'c' // event, source, data, pid, functions ...
	frameRender = 't' // event, source, data, scripts ...
	frameReady  = 'r' // from a child that has just started, its limits set
	frameLog    = 'l' // level, message
	frameEnd    = 'e' // what was wrong, empty for nothing
	framePieces = 'p' // what each script wrote
	frameFault  = 'f' // script, line, what was wrong
)

// Bounds of a frame, in bytes.
const (
	maxCall     = 4 << 20 // an event and a hook's functions are far smaller
	maxAnswer   = 64 << 10
	maxRendered = 2 << 20 // of values, and of what says what they are
)

var errFrame = errors.New("a frame that is none")

// frame is a kind and fields, ready to be written.
func frame[F string | []byte](kind byte, fields ...F) []byte {
	size := 1
	for _, f := range fields {
		size += 4 + len(f)
	}
	b := make([]byte, 0, 4+size)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = append(b, kind)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// readFrame reads one frame of at most the given size. The fields are the
// caller's, and parts of one piece of memory.
func readFrame(r *bufio.Reader, most uint32) (kind byte, fields [][]byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[:4])
	if size < 1 || size > most {
		return 0, nil, errFrame
	}
	rest := make([]byte, size-1)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, nil, err
	}
	for len(rest) > 0 {
		if len(rest) < 4 {
			return 0, nil, errFrame
		}
		n := binary.BigEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-4) {
			return 0, nil, errFrame
		}
		fields = append(fields, rest[4:4+n:4+n])
		rest = rest[4+n:]
	}
	return head[4], fields, nil
}

func logFrame(l hook.LogLine) []byte { return frame(frameLog, l.Level, l.Message) }
