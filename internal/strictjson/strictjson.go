// Package strictjson reads JSON that strangers send, and refuses what other
// readers would each read in their own way: names that appear twice in one
// object, text that is not UTF-8, escapes that are no character (a lone half
// of a surrogate pair), anything after the value. Depth and number of values
// are bounded, so that a small document cannot cost much.
//
// Numbers stay exactly as sent. It knows nothing of any particular document:
// which names an object may have is for its reader to say.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound a document. The zero value means the defaults.
type Limits struct {
	// Depth is how many objects and arrays may lie inside each other; 0 means
	// DefaultDepth. `{"a":[1]}` is 2 deep, a number is 0.
	Depth int
	// Values is how many values there may be: every object, array, string,
	// number, true, false and null counts one, the names of members do not; 0
	// means DefaultValues.
	Values int
}

// The limits that apply when none are given.
const (
	DefaultDepth  = 64
	DefaultValues = 100_000
)

// unlimited is for documents that something else bounds.
var unlimited = Limits{Depth: 1 << 30, Values: 1 << 30}

func (l Limits) orDefaults() Limits {
	if l.Depth == 0 {
		l.Depth = DefaultDepth
	}
	if l.Values == 0 {
		l.Values = DefaultValues
	}
	return l
}

// Error says where a document is wrong, and how.
type Error struct {
	// Pointer is the place as an RFC 6901 pointer ("/config/url", "/0/data");
	// "" is the whole document.
	Pointer string
	// Reason is for a person; it may quote a few characters of the document.
	Reason string
}

func (e *Error) Error() string {
	if e.Pointer == "" {
		return e.Reason
	}
	return e.Pointer + ": " + e.Reason
}

// Check reports whether data is one strict JSON value within the limits. The
// error is an *Error.
func Check(data []byte, l Limits) error {
	l = l.orDefaults()
	if !fits(data, l) {
		return diagnose(data, l)
	}
	r := Open(data)
	_, err := r.dec.ReadValue()
	ok := err == nil && r.end()
	r.free()
	if !ok {
		return diagnose(data, l)
	}
	return nil
}

// Decode returns the document as map[string]any, []any, string, json.Number,
// bool and nil. Its strings are parts of one copy of the document. The error is
// an *Error.
func Decode(data []byte, l Limits) (any, error) {
	l = l.orDefaults()
	if !fits(data, l) {
		return nil, diagnose(data, l)
	}
	r := Open(data)
	v, err := r.any(string(data))
	ok := err == nil && r.end()
	r.free()
	if !ok {
		return nil, diagnose(data, l)
	}
	return v, nil
}

// Member is one member of an object.
type Member struct {
	Name  string
	Value []byte // raw JSON, a sub-slice of the document
}

// Object checks the whole document, which must be an object, and splits it
// into its members, in their order. The error is an *Error.
func Object(data []byte, l Limits) ([]Member, error) {
	l = l.orDefaults()
	if !fits(data, l) {
		return nil, diagnose(data, l)
	}
	r := Open(data)
	members, ok := r.members()
	r.free()
	if !ok {
		if err := diagnose(data, l); err != nil {
			return nil, err
		}
		return nil, &Error{Reason: "expected an object, got " + KindName(data)}
	}
	return members, nil
}

func (r *Reader) members() ([]Member, bool) {
	t, err := r.dec.ReadToken()
	if err != nil || t.Kind() != '{' {
		return nil, false
	}
	members := make([]Member, 0, 8)
	for r.dec.PeekKind() == '"' {
		name, err := r.dec.ReadValue()
		if err != nil {
			return nil, false
		}
		key := string(unquote(name))
		value, err := r.dec.ReadValue()
		if err != nil {
			return nil, false
		}
		members = append(members, Member{key, value})
	}
	_, err = r.dec.ReadToken()
	return members, err == nil && r.end()
}

// Array checks the whole document, which must be an array, and splits it into
// its elements: raw JSON, sub-slices of data. The error is an *Error.
func Array(data []byte, l Limits) ([][]byte, error) {
	l = l.orDefaults()
	if !fits(data, l) {
		return nil, diagnose(data, l)
	}
	r := Open(data)
	elements, ok := r.elements()
	r.free()
	if !ok {
		if err := diagnose(data, l); err != nil {
			return nil, err
		}
		return nil, &Error{Reason: "expected an array, got " + KindName(data)}
	}
	return elements, nil
}

func (r *Reader) elements() ([][]byte, bool) {
	t, err := r.dec.ReadToken()
	if err != nil || t.Kind() != '[' {
		return nil, false
	}
	elements := make([][]byte, 0, 8)
	for {
		switch r.dec.PeekKind() {
		case ']':
			_, err = r.dec.ReadToken()
			return elements, err == nil && r.end()
		default:
			value, err := r.dec.ReadValue()
			if err != nil {
				return nil, false
			}
			elements = append(elements, value)
		}
	}
}

// String returns the text of a raw JSON string that has been checked before;
// false when raw is something else.
func String(raw []byte) (string, bool) {
	if Kind(raw) != '"' {
		return "", false
	}
	raw = trim(raw)
	if len(raw) < 2 {
		return "", false
	}
	return string(unquote(raw)), true
}

// Kind tells what a raw value is by its first character: '{', '[', '"', 't',
// 'f', 'n', '0' for every number, 0 for nothing or what begins no value.
func Kind(raw []byte) byte {
	raw = trim(raw)
	if len(raw) == 0 {
		return 0
	}
	switch c := raw[0]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return c
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	}
	return 0
}

// KindName is Kind in words: "an object", "a string", "null", "nothing".
func KindName(raw []byte) string {
	switch Kind(raw) {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "nothing"
}

func blank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func trim(raw []byte) []byte {
	for len(raw) > 0 && blank(raw[0]) {
		raw = raw[1:]
	}
	for len(raw) > 0 && blank(raw[len(raw)-1]) {
		raw = raw[:len(raw)-1]
	}
	return raw
}

// Compact appends raw to dst without the whitespace between tokens; everything
// else stays byte for byte. raw has been checked before.
func Compact(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case blank(c):
			i++
		case c == '"':
			n := stringEnd(raw, i)
			dst = append(dst, raw[i:n]...)
			i = n
		default:
			n := i + 1
			for n < len(raw) && raw[n] > ' ' && raw[n] != '"' {
				n++
			}
			dst = append(dst, raw[i:n]...)
			i = n
			if i < len(raw) && raw[i] < ' ' && !blank(raw[i]) {
				dst = append(dst, raw[i]) // no JSON: kept, for nothing may be lost here
				i++
			}
		}
	}
	return dst
}

// stringEnd returns the index after the string that begins at raw[i], or
// len(raw) when it does not end.
func stringEnd(raw []byte, i int) int {
	for i++; ; i++ {
		n := bytes.IndexByte(raw[i:], '"')
		if n < 0 {
			return len(raw)
		}
		begin := i
		i += n
		back := i
		for back > begin && raw[back-1] == '\\' {
			back--
		}
		if (i-back)%2 == 0 {
			return i + 1
		}
	}
}

// Encode is encoding/json without its escaping for HTML, which receivers would
// see as \u003c, and without a newline at the end.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Within reports whether a document that has been checked before keeps the
// limits: a look at its brackets and commas, cheaper than reading it.
func Within(raw []byte, l Limits) bool { return fits(raw, l.orDefaults()) }

// fits is Within. For data that is no JSON either answer is good: what follows
// refuses it.
func fits(data []byte, l Limits) bool {
	// Most documents are too short for too many values, for each but the last
	// takes two bytes, and have too few brackets to be too deep.
	if len(data)/2 < l.Values && bytes.Count(data, brace)+bytes.Count(data, bracket) <= l.Depth {
		return true
	}
	depth, values := 0, 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i) - 1
		case '{', '[':
			if depth++; depth > l.Depth {
				return false
			}
			// The first value inside; a comma stands before each other one.
			for i+1 < len(data) && blank(data[i+1]) {
				i++
			}
			if i+1 < len(data) && data[i+1] != '}' && data[i+1] != ']' {
				values++
			}
		case '}', ']':
			depth--
		case ',':
			values++
		}
	}
	return values <= l.Values
}

var brace, bracket = []byte("{"), []byte("[")

// diagnose walks through a document that was refused, token by token, and says
// what is wrong with it; nil when nothing is.
func diagnose(data []byte, l Limits) error {
	if len(trim(data)) == 0 {
		return &Error{Reason: "empty, expected a JSON value"}
	}
	r := Open(data)
	defer r.free()
	values := 0
	for {
		t, err := r.dec.ReadToken()
		if err != nil {
			return reason(data, err)
		}
		depth := r.dec.StackDepth()
		if depth > l.Depth {
			return &Error{place(r.dec.StackPointer()), "more than " + strconv.Itoa(l.Depth) + " objects and arrays inside each other"}
		}
		// A name is a string token that leaves its object with an odd count.
		kind, n := r.dec.StackIndex(depth)
		name := kind == '{' && t.Kind() == '"' && n%2 == 1
		if !name && t.Kind() != '}' && t.Kind() != ']' {
			if values++; values > l.Values {
				return &Error{place(r.dec.StackPointer()), "more than " + strconv.Itoa(l.Values) + " values in the document"}
			}
		}
		if depth == 0 {
			if !r.end() {
				return &Error{Reason: "something follows the end of the JSON value"}
			}
			return nil
		}
	}
}

// place keeps a pointer to a length that fits an error message.
func place(p jsontext.Pointer) string {
	const most = 200
	s := string(p)
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// reason puts an error of jsontext into our words.
func reason(data []byte, err error) error {
	var se *jsontext.SyntacticError
	if !errors.As(err, &se) {
		return &Error{Reason: "not JSON: " + err.Error()}
	}
	e := &Error{Pointer: place(se.JSONPointer)}
	at := " (byte " + strconv.FormatInt(se.ByteOffset, 10) + ")"
	switch {
	case errors.Is(se.Err, jsontext.ErrDuplicateName):
		e.Reason = "this name appears twice in its object"
	case errors.Is(se.Err, io.ErrUnexpectedEOF):
		e.Reason = "the document ends in the middle" + at
	case se.ByteOffset <= int64(len(data)) && !startsUTF8(data[se.ByteOffset:]):
		e.Reason = "not UTF-8" + at
	case se.Err != nil:
		e.Reason = "not JSON: " + se.Err.Error() + at
	default:
		e.Reason = "not JSON" + at
	}
	return e
}

// startsUTF8 reports whether b begins with a whole character, or is empty.
func startsUTF8(b []byte) bool {
	r, n := utf8.DecodeRune(b)
	return r != utf8.RuneError || n != 1
}
