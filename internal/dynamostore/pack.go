package dynamostore

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"eventhooks/internal/hook"
)

// The first byte of packed bytes says how they are stored. A value that names
// anything else was written by a later version.
const (
	packedPlain   = 1
	packedDeflate = 2
)

const (
	// minDeflate is the size below which compressing is not tried: a shorter
	// text hardly shrinks, and its row is below a kilobyte anyway.
	minDeflate = 256
	// maxUnpacked bounds what is packed and unpacked: more than the largest
	// event, response or probe summary.
	maxUnpacked = 1 << 20
)

var errTooLarge = errors.New("more than 1 MiB")

// Writers and readers are pooled: making one costs more than packing an event.
var (
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(io.Discard, flate.BestSpeed) // fails on an unknown level only
		return w
	}}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}
)

// pack returns plain with a leading format byte, compressed where that makes
// it smaller: DynamoDB bills every kilobyte written.
func pack(plain []byte) ([]byte, error) {
	if len(plain) > maxUnpacked {
		return nil, fmt.Errorf("pack %d bytes: %w", len(plain), errTooLarge)
	}
	out := make([]byte, 1, len(plain)+1)
	if len(plain) >= minDeflate {
		b := bytes.NewBuffer(out)
		b.Bytes()[0] = packedDeflate
		w := deflaters.Get().(*flate.Writer)
		w.Reset(b)
		// A bytes.Buffer takes every write.
		_, err := w.Write(plain)
		err = errors.Join(err, w.Close())
		deflaters.Put(w)
		if err == nil && b.Len() <= len(plain) {
			return b.Bytes(), nil
		}
	}
	out[0] = packedPlain
	return append(out, plain...), nil
}

// unpack reverses pack. What it returns may share memory with packed.
func unpack(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, errors.New("unpack: nothing there")
	}
	switch packed[0] {
	case packedPlain:
		return packed[1:], nil
	case packedDeflate:
		r := inflaters.Get().(io.ReadCloser)
		defer inflaters.Put(r)
		if err := r.(flate.Resetter).Reset(bytes.NewReader(packed[1:]), nil); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		var b bytes.Buffer
		b.Grow(4 * len(packed))
		if _, err := b.ReadFrom(io.LimitReader(r, maxUnpacked+1)); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if b.Len() > maxUnpacked {
			return nil, fmt.Errorf("unpack: %w", errTooLarge)
		}
		return b.Bytes(), nil
	}
	return nil, fmt.Errorf("unpack: form %d is not known: deploy the newer version again", packed[0])
}

// packEvent packs what an item does not hold in attributes of its own: the
// event's time, workspace, trace context and data.
func packEvent(ev hook.Event) ([]byte, error) {
	b := make([]byte, 0, 32+len(ev.Workspace)+len(ev.Traceparent)+len(ev.Data))
	b = binary.AppendVarint(b, ev.Time.Unix())
	b = binary.AppendUvarint(b, uint64(ev.Time.Nanosecond()))
	for _, s := range []string{ev.Workspace, ev.Traceparent} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return pack(append(b, ev.Data...))
}

// unpackEvent reverses packEvent: it fills the fields of ev that packEvent
// packs.
func unpackEvent(packed []byte, ev *hook.Event) error {
	b, err := unpack(packed)
	if err != nil {
		return err
	}
	sec, n := binary.Varint(b)
	if n <= 0 {
		return errors.New("unpack event: its time is cut off")
	}
	b = b[n:]
	nanos, n := binary.Uvarint(b)
	if n <= 0 || nanos >= uint64(time.Second) {
		return errors.New("unpack event: its time is not one")
	}
	b = b[n:]
	var texts [2]string
	for i := range texts {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errors.New("unpack event: it is cut off")
		}
		texts[i], b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	ev.Time = time.Unix(sec, int64(nanos)).UTC()
	ev.Workspace, ev.Traceparent = texts[0], texts[1]
	ev.Data = b
	return nil
}
