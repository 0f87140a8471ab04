package egress

import (
	"bufio"
	"encoding/binary"
	"io"
	"strconv"
	"sync"
	"time"
)

// A probe of gRPC is one request on one stream of a connection of its own, so
// it needs a small part of HTTP/2 (RFC 9113) only. Here it is, read and written
// by the one goroutine that probes: the client of net/http takes nearly twice
// the CPU time, holds on to a closed connection for 5 s, writes a line to the
// log for each frame that is new to it, and does not tell one failure from
// another.

// Bounds of an answer in HTTP/2.
const (
	maxFrame      = 16 << 10  // what everybody may send without asking
	maxHeaders    = 64 << 10  // a header block, compressed as it is
	maxMessage    = 64 << 10  // the body
	maxConnection = 256 << 10 // all that is read, frames of any kind
)

// Frames, their flags and settings.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize  = 1
	settingPush       = 2
	settingWindow     = 4
	settingHeaderList = 6

	theStream = 1 // ours, and the only one
)

// Fields of HPACK's static table, written.
const (
	methodPost  = 0x83
	schemeHTTP  = 0x86
	schemeHTTPS = 0x87
)

// answerError is an answer that is none, in words.
type answerError string

func (e answerError) Error() string { return string(e) }

const (
	errHTTP1    answerError = "the answer is not gRPC: the server speaks HTTP/1"
	errNotHTTP2 answerError = "the answer is not gRPC: the server does not speak HTTP/2"
	errBroken   answerError = "the answer is not valid HTTP/2"
	errReset    answerError = "the server ended the request (RST_STREAM)"
	errGoAway   answerError = "the server ended the connection (GOAWAY)"
)

func tooLarge(what string, most int) error {
	return answerError(what + " larger than " + strconv.Itoa(most>>10) + " KB")
}

// appendFrame writes the head of a frame of n bytes.
func appendFrame(b []byte, n int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

// appendRequest writes all that the client has to say: the preface, a header
// block and a body of at most maxFrame bytes. Nothing of the server's has to be
// waited for; what it may limit by its settings is less than it must allow
// without.
func appendRequest(b, block, body []byte) []byte {
	b = append(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"...)
	settings := [...]struct {
		id    uint16
		value uint32
	}{
		{settingTableSize, 0}, // see headerBlock
		{settingPush, 0},
		{settingWindow, 2 * maxMessage}, // so that a larger one is seen to be, and does not hang
		{settingHeaderList, maxHeaders},
	}
	b = appendFrame(b, 6*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, s.id)
		b = binary.BigEndian.AppendUint32(b, s.value)
	}
	b = appendFrame(b, 4, frameWindow, 0, 0)
	b = binary.BigEndian.AppendUint32(b, 2*maxMessage-65535) // what a connection's window lacks

	for kind := byte(frameHeaders); ; kind = frameContinuation {
		n, flags := min(len(block), maxFrame), byte(0)
		if n == len(block) {
			flags = flagEndHeaders
		}
		b = appendFrame(b, n, kind, flags, theStream)
		b = append(b, block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
	}
	b = appendFrame(b, len(body), frameData, flagEndStream, theStream)
	return append(b, body...)
}

// answer is what came back on the stream.
type answer struct {
	code        int // HTTP status; 0 before it came
	contentType string
	grpcStatus  string // of the trailers, or of headers that are all there is; "" when there was none
	body        []byte
	headed      time.Time // when the headers came
}

// readAnswer reads up to the end of the stream. An error is an answerError, or
// conn's; a holds what had come before it.
func readAnswer(conn io.ReadWriter, a *answer) error {
	link := &link{conn: conn, left: maxConnection}
	r := &frameReader{in: bufio.NewReaderSize(link, 1<<10)}
	start, err := r.in.Peek(4)
	switch {
	case err != nil:
		return err
	case string(start) == "HTTP":
		return errHTTP1
	case start[3] != frameSettings: // with which every server begins
		return errNotHTTP2
	}
	goingAway := false
	for {
		f, err := r.next()
		if err != nil {
			if goingAway {
				return errGoAway
			}
			return err
		}
		switch f.kind {
		case frameHeaders:
			if err := a.headers(f, r); err != nil {
				return err
			}
		case frameData:
			if f.stream != theStream || a.code == 0 {
				return errBroken
			}
			if a.body = append(a.body, f.payload...); len(a.body) > maxMessage {
				return tooLarge("the answer is", maxMessage)
			}
		case frameReset:
			return errReset
		case frameGoAway:
			// The last stream that the server will answer follows; ours may
			// still be one.
			if goingAway = true; len(f.payload) < 8 || binary.BigEndian.Uint32(f.payload)&^(1<<31) < theStream {
				return errGoAway
			}
		case framePush, frameContinuation:
			return errBroken
		case frameSettings:
			if f.flags&flagAck == 0 {
				link.out = appendFrame(link.out, 0, frameSettings, flagAck, 0)
			}
		case framePing:
			if len(f.payload) != 8 {
				return errBroken
			}
			if f.flags&flagAck == 0 {
				link.out = appendFrame(link.out, 8, framePing, flagAck, 0)
				link.out = append(link.out, f.payload...)
			}
		}
		// All others, also those that are not known here, are to be ignored.
		if (f.kind == frameHeaders || f.kind == frameData) && f.flags&flagEndStream != 0 {
			return nil
		}
	}
}

// headers reads a header block that begins in f.
func (a *answer) headers(f http2Frame, r *frameReader) error {
	if f.stream != theStream {
		return errBroken
	}
	block, flags := f.payload, f.flags
	if flags&flagEndHeaders == 0 {
		block = append([]byte(nil), block...) // the frame's bytes are the reader's
		for flags&flagEndHeaders == 0 {
			more, err := r.next()
			switch {
			case err != nil:
				return err
			case more.kind != frameContinuation || more.stream != theStream:
				return errBroken
			case len(block)+len(more.payload) > maxHeaders:
				return tooLarge("the answer's headers are", maxHeaders)
			}
			block, flags = append(block, more.payload...), more.flags
		}
	}
	code, contentType, grpcStatus := 0, "", ""
	for h := (headerBlock{block}); len(h.rest) > 0; {
		name, value, err := h.next()
		if err != nil {
			return err
		}
		switch name {
		case ":status":
			if code, err = strconv.Atoi(value); err != nil || len(value) != 3 || code < 100 {
				return errBroken
			}
		case "content-type":
			contentType = value
		case "grpc-status":
			grpcStatus = value
		}
	}
	end := f.flags&flagEndStream != 0
	switch {
	case a.code == 0 && code >= 200:
		a.code, a.contentType, a.grpcStatus, a.headed = code, contentType, grpcStatus, time.Now()
	case a.code == 0 && code >= 100 && !end: // of no interest: the answer's come later
	case a.code != 0 && code == 0 && end: // trailers
		if grpcStatus != "" {
			a.grpcStatus = grpcStatus
		}
	default:
		return errBroken
	}
	return nil
}

// http2Frame is one frame, without its padding and priority. The payload is
// good until the next one is read, and of unknown frames not read at all.
type http2Frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

type frameReader struct {
	in      *bufio.Reader
	payload []byte // of the last frame
}

func (r *frameReader) next() (http2Frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return http2Frame{}, err
	}
	n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	f := http2Frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) &^ (1 << 31)}
	if n > maxFrame {
		return f, errBroken
	}
	if f.kind > frameContinuation {
		_, err := r.in.Discard(n)
		return f, err
	}
	if cap(r.payload) < n {
		r.payload = make([]byte, max(n, 512))
	}
	f.payload = r.payload[:n]
	if _, err := io.ReadFull(r.in, f.payload); err != nil {
		return f, err
	}
	if f.kind != frameData && f.kind != frameHeaders {
		return f, nil
	}
	before, after := 0, 0
	if f.flags&flagPadded != 0 {
		if n == 0 {
			return f, errBroken
		}
		before, after = 1, int(f.payload[0])
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		before += 5
	}
	if before+after > n {
		return f, errBroken
	}
	f.payload = f.payload[before : n-after]
	return f, nil
}

// link is a connection from which up to left bytes are read, and to which out
// is sent before anything is waited for.
type link struct {
	conn io.ReadWriter
	left int
	out  []byte
}

func (l *link) Read(p []byte) (int, error) {
	if len(l.out) > 0 {
		// That it cannot be sent is no news yet: the answer may be there.
		_, _ = l.conn.Write(l.out)
		l.out = l.out[:0]
	}
	if l.left <= 0 {
		return 0, tooLarge("the answer is", maxConnection)
	}
	n, err := l.conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// appendField writes a header field as HPACK (RFC 7541) has it for one that
// nobody on the way may remember: it may be a secret.
func appendField(b []byte, name, value string) []byte {
	b = append(b, 0x10)
	b = appendString(b, name)
	return appendString(b, value)
}

// appendString writes a string as it is.
func appendString(b []byte, s string) []byte {
	b = appendInteger(b, 0, 7, len(s))
	return append(b, s...)
}

// appendInteger writes n in the low bits of a byte, and as many more as it
// takes.
func appendInteger(b []byte, high byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, high|byte(n))
	}
	return binary.AppendUvarint(append(b, high|byte(most)), uint64(n-most))
}

// headerBlock is what is left of a header block. There is no dynamic table,
// because our settings forbid it.
type headerBlock struct{ rest []byte }

// What there is of HPACK's static table here: the rest names nothing that a
// probe reads.
const (
	staticFields     = 61
	firstStatus      = 8
	contentTypeField = 31
)

var statuses = [...]string{"200", "204", "206", "304", "400", "404", "500"}

func isStatus(index int) bool { return index >= firstStatus && index < firstStatus+len(statuses) }

// next reads a field; one that a probe does not read may have no name.
func (h *headerBlock) next() (name, value string, err error) {
	first, bits := h.rest[0], 4
	switch {
	case first&0x80 != 0: // name and value are the table's
		i, err := h.integer(7)
		if err != nil || i == 0 || i > staticFields {
			return "", "", errBroken
		}
		if isStatus(i) {
			return ":status", statuses[i-firstStatus], nil
		}
		return "", "", nil
	case first&0xe0 == 0x20: // the size of the dynamic table
		_, err := h.integer(5)
		return "", "", err
	case first&0x40 != 0: // to be remembered, in a table of no bytes
		bits = 6
	}
	i, err := h.integer(bits)
	switch {
	case err != nil || i > staticFields:
		return "", "", errBroken
	case i == 0:
		if name, err = h.text(true); err != nil {
			return "", "", err
		}
	case isStatus(i):
		name = ":status"
	case i == contentTypeField:
		name = "content-type"
	}
	value, err = h.text(name == ":status" || name == "content-type" || name == "grpc-status")
	return name, value, err
}

// integer reads what appendInteger writes.
func (h *headerBlock) integer(bits int) (int, error) {
	most := 1<<bits - 1
	n := int(h.rest[0]) & most
	h.rest = h.rest[1:]
	if n < most {
		return n, nil
	}
	more, size := binary.Uvarint(h.rest)
	if size <= 0 || more > maxHeaders {
		return 0, errBroken
	}
	h.rest = h.rest[size:]
	return n + int(more), nil
}

// text reads a string, or reads over it when it is not wanted.
func (h *headerBlock) text(wanted bool) (string, error) {
	if len(h.rest) == 0 {
		return "", errBroken
	}
	coded := h.rest[0]&0x80 != 0
	n, err := h.integer(7)
	if err != nil || n > len(h.rest) {
		return "", errBroken
	}
	raw := h.rest[:n]
	h.rest = h.rest[n:]
	switch {
	case !wanted:
		return "", nil
	case coded:
		return huffman(raw)
	}
	return string(raw), nil
}

// huffmanBits are the lengths of HPACK's codes of all bytes. The code is
// canonical, so they tell the codes too; the one that ends a string, and may
// not be written, is the last of its length.
var huffmanBits = [256]byte{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const maxHuffmanBits = 30

// huffmanCode tells, by length, the first code, how many there are, and where
// their bytes are.
type huffmanCode struct {
	first, count, at [maxHuffmanBits + 1]int
	bytes            []byte // by length, then by value: in the order of their codes
}

var huffmanCodes = sync.OnceValue(func() *huffmanCode {
	h := &huffmanCode{bytes: make([]byte, 0, 256)}
	for bits := 1; bits <= maxHuffmanBits; bits++ {
		h.first[bits], h.at[bits] = (h.first[bits-1]+h.count[bits-1])<<1, len(h.bytes)
		for c, n := range huffmanBits {
			if int(n) == bits {
				h.bytes = append(h.bytes, byte(c))
				h.count[bits]++
			}
		}
	}
	return h
})

// huffman decodes a string.
func huffman(raw []byte) (string, error) {
	h := huffmanCodes()
	out := make([]byte, 0, len(raw)*8/5)
	code, bits := 0, 0
	for i := range 8 * len(raw) {
		code, bits = code<<1|int(raw[i/8]>>(7-i%8)&1), bits+1
		if bits > maxHuffmanBits {
			return "", errBroken
		}
		if n := code - h.first[bits]; n < h.count[bits] {
			out = append(out, h.bytes[h.at[bits]+n])
			code, bits = 0, 0
		}
	}
	if bits > 7 || code != 1<<bits-1 { // what fills the last byte is ones
		return "", errBroken
	}
	return string(out), nil
}
