package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Reader reads a document of a known shape in one pass: as strict as Check, but
// without its limits, so it is for documents whose size and shape are bounded
// by something else. The first fault ends it: from then on everything it
// returns is zero, and Close tells the fault.
//
// Not safe for concurrent use. Made by Open, ended by Close.
type Reader struct {
	dec   jsontext.Decoder
	buf   bytes.Buffer // jsontext reads a bytes.Buffer in place: values are sub-slices
	data  []byte
	name  []byte // of the member that is being read, quoted
	err   error  // of jsontext
	fault *Error
}

var readers = sync.Pool{New: func() any {
	r := new(Reader)
	r.dec.Reset(&r.buf)
	return r
}}

// Open begins to read data, which must stay as it is until Close; what Raw
// returned must not be changed either.
func Open(data []byte) *Reader {
	r := readers.Get().(*Reader)
	r.buf = *bytes.NewBuffer(data)
	r.data = data
	return r
}

// Close ends the reading and returns what was wrong, an *Error: also when
// something follows the value, or when it was not read to its end. The Reader
// must not be used after it.
func (r *Reader) Close() error {
	if r.ok() && !r.end() {
		r.err = errUnfinished
	}
	err := r.err
	fault, data := r.fault, r.data
	r.free()
	switch {
	case fault != nil:
		return fault
	case err != nil:
		if fault := diagnose(data, unlimited); fault != nil {
			return fault
		}
		return &Error{Reason: err.Error()}
	}
	return nil
}

// errUnfinished stands for a document whose end was not reached.
var errUnfinished = errors.New("not read to its end")

// free forgets the document and gives the reader back.
func (r *Reader) free() {
	r.buf = bytes.Buffer{}
	r.dec.Reset(&r.buf)
	r.data, r.name, r.err, r.fault = nil, nil, nil, nil
	readers.Put(r)
}

func (r *Reader) ok() bool { return r.err == nil && r.fault == nil }

// end reports whether nothing follows what has been read.
func (r *Reader) end() bool {
	_, err := r.dec.ReadToken()
	return errors.Is(err, io.EOF)
}

// Fail notes that what has just been read is not what it should be. The fault
// has the place in the document.
func (r *Reader) Fail(why string) {
	if r.ok() {
		r.fault = &Error{place(r.dec.StackPointer()), why}
	}
}

// Object reads an object: member is called for each one with its name, and
// must read its value. The name is good until then.
func (r *Reader) Object(member func(name []byte)) {
	if !r.enter('{', "an object") {
		return
	}
	for r.ok() && r.dec.PeekKind() == '"' {
		raw, err := r.dec.ReadValue()
		if err != nil {
			r.err = err
			return
		}
		before := r.dec.InputOffset()
		r.name = raw
		member(unquote(raw))
		if r.ok() && r.dec.InputOffset() == before {
			r.Raw() // not wanted
		}
	}
	r.leave()
}

// QuotedName returns the name of the member that is being read as it stands in
// the document: a sub-slice of it.
func (r *Reader) QuotedName() []byte { return r.name }

// Kind tells what the next value is, as the function Kind does.
func (r *Reader) Kind() byte {
	if !r.ok() {
		return 0
	}
	return byte(r.dec.PeekKind())
}

// Offset returns how many bytes of the document have been read: the end of the
// last value or name.
func (r *Reader) Offset() int { return int(r.dec.InputOffset()) }

// Since returns the document from an earlier Offset up to now, without blanks
// and separators before it: the value that was read since. nil after a fault.
func (r *Reader) Since(offset int) []byte {
	if !r.ok() {
		return nil
	}
	raw := r.data[offset:r.Offset()]
	for len(raw) > 0 && (blank(raw[0]) || raw[0] == ',' || raw[0] == ':') {
		raw = raw[1:]
	}
	return raw
}

// Array reads an array: element is called for each one and must read it.
func (r *Reader) Array(element func()) {
	if !r.enter('[', "an array") {
		return
	}
	for r.ok() {
		k := r.dec.PeekKind()
		if k == ']' {
			break
		}
		before := r.dec.InputOffset()
		element()
		if r.ok() && r.dec.InputOffset() == before {
			r.Raw()
		}
	}
	r.leave()
}

func (r *Reader) enter(kind jsontext.Kind, what string) bool {
	if !r.ok() {
		return false
	}
	if r.dec.PeekKind() != kind {
		r.mismatch(what)
		return false
	}
	_, r.err = r.dec.ReadToken()
	return r.err == nil
}

func (r *Reader) leave() {
	if r.ok() {
		_, r.err = r.dec.ReadToken()
	}
}

// mismatch reads what is there instead of what was wanted, and fails.
func (r *Reader) mismatch(what string) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		r.err = err
		return
	}
	r.Fail("expected " + what + ", got " + KindName(raw))
}

// Raw reads any value as it is: a sub-slice of the document.
func (r *Reader) Raw() []byte {
	if !r.ok() {
		return nil
	}
	raw, err := r.dec.ReadValue()
	r.err = err
	return raw
}

// String reads a string.
func (r *Reader) String() string {
	if !r.ok() {
		return ""
	}
	if r.dec.PeekKind() != '"' {
		r.mismatch("a string")
		return ""
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		r.err = err
		return ""
	}
	return string(unquote(raw))
}

// Int reads a number that is an integer of 64 bits, written without fraction
// or exponent.
func (r *Reader) Int() int64 {
	if !r.ok() {
		return 0
	}
	if r.dec.PeekKind() != '0' {
		r.mismatch("an integer")
		return 0
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		r.err = err
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		r.Fail("expected an integer of 64 bits")
	}
	return n
}

// any reads the next value as Decode returns it. text is the document: strings
// and numbers are parts of it, which saves a piece of memory for each.
func (r *Reader) any(text string) (any, error) {
	switch r.dec.PeekKind() {
	case '{':
		if _, err := r.dec.ReadToken(); err != nil {
			return nil, err
		}
		m := make(map[string]any)
		for r.dec.PeekKind() == '"' {
			raw, err := r.dec.ReadValue()
			if err != nil {
				return nil, err
			}
			name := r.text(text, raw)
			if m[name], err = r.any(text); err != nil {
				return nil, err
			}
		}
		_, err := r.dec.ReadToken()
		return m, err
	case '[':
		if _, err := r.dec.ReadToken(); err != nil {
			return nil, err
		}
		a := []any{}
		for r.dec.PeekKind() != ']' {
			v, err := r.any(text)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		_, err := r.dec.ReadToken()
		return a, err
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	switch raw[0] {
	case '"':
		return r.text(text, raw), nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n':
		return nil, nil
	}
	end := r.Offset()
	return json.Number(text[end-len(raw) : end]), nil
}

// text returns the string that has just been read.
func (r *Reader) text(text string, raw []byte) string {
	if bytes.IndexByte(raw, '\\') >= 0 {
		return string(unquote(raw))
	}
	end := r.Offset()
	return text[end-len(raw)+1 : end-1]
}

// unquote returns the text of a string that has been read; a sub-slice of it
// where nothing is escaped.
func unquote(raw []byte) []byte {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // it has been checked
	return text
}
