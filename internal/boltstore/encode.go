package boltstore

import (
	"encoding/binary"
	"errors"
	"time"
)

// Documents are fields one after another: integers as varints, texts and bytes
// with their length before them. Fields are only ever added at the end, so a
// reader takes those that are missing for zero.

// errCut: a document ends within a field.
var errCut = errors.New("the stored document is damaged")

type writer struct{ b []byte }

func (w *writer) int(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) bool(v bool) {
	if v {
		w.int(1)
	} else {
		w.int(0)
	}
}

func (w *writer) text(s string) {
	w.b = binary.AppendUvarint(w.b, uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) bytes(b []byte) {
	w.b = binary.AppendUvarint(w.b, uint64(len(b)))
	w.b = append(w.b, b...)
}

// time keeps seconds and nanoseconds apart: a sender may name any year, and
// nanoseconds since 1970 hold only some centuries.
func (w *writer) time(t time.Time) {
	w.int(t.Unix())
	w.int(int64(t.Nanosecond()))
}

// part writes a document within the document, so that fields can be added to
// it too.
func (w *writer) part(fill func(*writer)) {
	var p writer
	fill(&p)
	w.bytes(p.b)
}

type reader struct {
	b   []byte
	err error // the first fault; what is read after it is zero
}

func (r *reader) int() int64 {
	if len(r.b) == 0 || r.err != nil {
		return 0
	}
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.err = errCut
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) bool() bool { return r.int() != 0 }

// slice returns a piece of the document, good for as long as the document is.
func (r *reader) slice() []byte {
	if len(r.b) == 0 || r.err != nil {
		return nil
	}
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)-size) {
		r.err = errCut
		return nil
	}
	piece := r.b[size : size+int(n)]
	r.b = r.b[size+int(n):]
	return piece
}

func (r *reader) text() string { return string(r.slice()) }

// bytes returns a copy; nil for nothing.
func (r *reader) bytes() []byte { return append([]byte(nil), r.slice()...) }

func (r *reader) time() time.Time {
	sec := r.int()
	return time.Unix(sec, r.int()).UTC()
}

// count reads the number of parts that follow. A part takes a byte at least.
func (r *reader) count() int {
	n := r.int()
	if n < 0 || n > int64(len(r.b)) {
		if r.err == nil {
			r.err = errCut
		}
		return 0
	}
	return int(n)
}

func (r *reader) part(read func(*reader)) {
	p := reader{b: r.slice()}
	if r.err != nil {
		return
	}
	read(&p)
	r.err = p.err
}
