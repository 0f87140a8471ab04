package render

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"eventhooks/internal/strictjson"
)

// ErrTooLarge: a rendered text would be larger than MaxOutput.
var ErrTooLarge = errors.New("the rendered text is larger than " + strconv.Itoa(MaxOutput>>10) + " KB")

// ErrUnbound: a template that needs Lua was rendered without Bind.
var ErrUnbound = errors.New("the template has not been run")

// rawJSON is a value that is JSON already.
type rawJSON string

// JSONError: a text that should be JSON is not, with the values it got. Its own
// text shows nothing of them; Err does.
type JSONError struct{ Err error }

func (e *JSONError) Error() string { return "the rendered text is not JSON" }
func (e *JSONError) Unwrap() error { return e.Err }

// writer appends rendered text, up to MaxOutput bytes of it.
type writer struct {
	b     []byte
	start int // where the rendered text begins
	err   error
}

func newWriter(dst []byte, hint int) *writer {
	return &writer{b: slices.Grow(dst, hint+hint/2), start: len(dst)}
}

func (w *writer) end() ([]byte, error) {
	if w.err != nil {
		return w.b[:w.start], w.err
	}
	return w.b, nil
}

// room reports whether n more bytes may be written, and fails the writer when
// they may not.
func (w *writer) room(n int) bool {
	if w.err == nil && len(w.b)-w.start+n > MaxOutput {
		w.err = ErrTooLarge
	}
	return w.err == nil
}

func (w *writer) string(s string) {
	if w.room(len(s)) {
		w.b = append(w.b, s...)
	}
}

func (w *writer) byte(c byte) {
	if w.room(1) {
		w.b = append(w.b, c)
	}
}

// template writes a template, and checks that it is JSON if it should be.
func (w *writer) template(t *Template, v Values) {
	if t.script != nil {
		w.err = ErrUnbound
		return
	}
	from := len(w.b)
	w.nodes(t.nodes, v)
	if t.json && w.err == nil {
		if err := strictjson.Check(w.b[from:], strictjson.Limits{}); err != nil {
			w.err = &JSONError{err}
		}
	}
}

func (w *writer) nodes(nodes []node, v Values) {
	for i := range nodes {
		n := &nodes[i]
		switch n.kind {
		case nodeName:
			w.value(v.lookup(n.path), n.form)
		case nodeWhole:
			w.quoted(n.whole, v)
		case nodeValue:
			w.value(n.value, n.form)
		default:
			w.string(n.text)
		}
		if w.err != nil {
			return
		}
	}
}

// quoted writes a template's result as the inside of a JSON string.
func (w *writer) quoted(t *Template, v Values) {
	text, err := t.Append(nil, v)
	if err != nil {
		w.err = err
		return
	}
	w.escaped(string(text))
}

// allValues is the name of all values together, where an event has none of that
// name.
const allValues = "context"

// lookup follows a path; nil when it leads nowhere.
func (v Values) lookup(path []segment) any {
	cur, ok := v[path[0].name]
	if !ok && path[0].name == allValues {
		cur = map[string]any(v)
	}
	for i := 1; i < len(path); i++ {
		switch c := cur.(type) {
		case map[string]any:
			cur = c[path[i].name]
		case []any:
			n := path[i].index
			if n < 0 || n >= len(c) {
				return nil
			}
			cur = c[n]
		default:
			return nil
		}
	}
	return cur
}

// value writes a value: a string as its characters, a number as it was sent,
// null as nothing, objects and arrays as JSON with their names sorted. Inside
// a JSON string all that is escaped; as a JSON value strings are quoted, and
// null is null.
func (w *writer) value(v any, f form) {
	if f == asValue {
		w.json(v)
		return
	}
	switch v := v.(type) {
	case nil:
	case string:
		if f == inString {
			w.escaped(v)
		} else {
			w.string(v)
		}
	case json.Number:
		w.string(v.String())
	case bool:
		w.string(strconv.FormatBool(v))
	default:
		if f == asText {
			w.json(v)
			return
		}
		inner := newWriter(nil, 0)
		inner.json(v)
		if inner.err != nil {
			w.err = inner.err
			return
		}
		w.escaped(string(inner.b))
	}
}

// json writes a JSON value.
func (w *writer) json(v any) {
	switch v := v.(type) {
	case nil:
		w.string("null")
	case string:
		w.byte('"')
		w.escaped(v)
		w.byte('"')
	case json.Number:
		w.string(v.String())
	case bool:
		w.string(strconv.FormatBool(v))
	case rawJSON:
		w.string(string(v))
	case map[string]any:
		w.byte('{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				w.byte(',')
			}
			w.json(name)
			w.byte(':')
			if w.json(v[name]); w.err != nil {
				return
			}
		}
		w.byte('}')
	case []any:
		w.byte('[')
		for i := range v {
			if i > 0 {
				w.byte(',')
			}
			if w.json(v[i]); w.err != nil {
				return
			}
		}
		w.byte(']')
	default: // from a caller that did not use ValuesOf
		text, err := strictjson.Encode(v)
		if err != nil {
			w.err = err
			return
		}
		w.string(string(text))
	}
}

// AppendString appends s as a JSON string, as templates write them. The error is
// ErrTooLarge; dst is returned as it was then.
func AppendString(dst []byte, s string) ([]byte, error) {
	w := writer{b: dst, start: len(dst)}
	w.byte('"')
	w.escaped(s)
	w.byte('"')
	return w.end()
}

// escaped writes the inside of a JSON string literal. What JSON does not ask
// to escape stays as it is.
func (w *writer) escaped(s string) {
	const hex = "0123456789abcdef"
	begin := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		w.string(s[begin:i])
		switch c {
		case '"', '\\':
			w.string(`\` + string(rune(c)))
		case '\n':
			w.string(`\n`)
		case '\r':
			w.string(`\r`)
		case '\t':
			w.string(`\t`)
		default:
			if c < ' ' {
				w.string(`\u00` + string(rune(hex[c>>4])) + string(rune(hex[c&15])))
			} else {
				w.string(`\ufffd`) // not UTF-8; values read by strictjson are
			}
		}
		if w.err != nil {
			return
		}
		i++
		begin = i
	}
	w.string(s[begin:])
}
