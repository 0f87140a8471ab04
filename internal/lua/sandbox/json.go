package sandbox

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	lua "github.com/yuin/gopher-lua"
)

// reading says how JSON becomes Lua.
type reading int

const (
	// eventValues: a member that is null is not there, and a whole number that
	// a Lua number cannot hold is a string with its digits.
	eventValues reading = iota
	// cjsonValues: null is cjson.null, every number is a number.
	cjsonValues
)

var (
	errDepth    = errors.New("nested too deep")
	errNoObject = errors.New("not an object")
)

// decode reads one JSON value. Within an array null is cjson.null, whichever
// the reading: a hole would move what follows it.
func (r *run) decode(b []byte, how reading) (lua.LValue, error) {
	d := jsontext.NewDecoder(bytes.NewReader(b), jsontext.AllowDuplicateNames(true))
	v, _, err := r.decodeValue(d, how, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); err != io.EOF { //nolint:errorlint // ReadToken returns it bare
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// decodeValue also returns what was written, for null and numbers only.
func (r *run) decodeValue(d *jsontext.Decoder, how reading, depth int) (v lua.LValue, written string, err error) {
	if depth > maxDepth {
		return nil, "", errDepth
	}
	t, err := d.ReadToken()
	if err != nil {
		return nil, "", err
	}
	switch t.Kind() {
	case 'n':
		return r.null, "null", nil
	case 't':
		return lua.LTrue, "", nil
	case 'f':
		return lua.LFalse, "", nil
	case '"':
		return lua.LString(t.String()), "", nil
	case '0':
		written = t.String()
		return readNumber(written, how), written, nil
	case '[':
		v, err = r.decodeArray(d, how, depth)
		return v, "", err
	}
	v, err = r.decodeObject(d, how, depth) // no other kind begins a value
	return v, "", err
}

func (r *run) decodeArray(d *jsontext.Decoder, how reading, depth int) (lua.LValue, error) {
	table := r.l.CreateTable(0, 0)
	for d.PeekKind() != ']' {
		v, written, err := r.decodeValue(d, how, depth+1)
		if err != nil {
			return nil, err
		}
		table.Append(v)
		r.origin.note(table, lua.LNumber(table.Len()), v, written)
	}
	r.origin.list(table)
	_, err := d.ReadToken()
	return table, err
}

func (r *run) decodeObject(d *jsontext.Decoder, how reading, depth int) (lua.LValue, error) {
	table := r.l.CreateTable(0, 4)
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := t.String()
		v, written, err := r.decodeValue(d, how, depth+1)
		if err != nil {
			return nil, err
		}
		if v == r.null && how == eventValues {
			v = lua.LNil
		}
		table.RawSetString(name, v)
		r.origin.note(table, lua.LString(name), v, written)
	}
	_, err := d.ReadToken()
	return table, err
}

// maxExact is the largest whole number up to which a Lua number holds them all.
const maxExact = 1 << 53

func readNumber(text string, how reading) lua.LValue {
	f, err := strconv.ParseFloat(text, 64)
	if how == eventValues && (err != nil || math.Abs(f) >= maxExact && !exact(text, f)) {
		return lua.LString(text)
	}
	return lua.LNumber(f)
}

// exact reports whether a large number is, digit by digit, what was written.
func exact(text string, f float64) bool {
	return math.Abs(f) <= maxExact && text == strconv.FormatFloat(f, 'f', -1, 64)
}

// openJSON makes cjson, and require for it.
func (r *run) openJSON() {
	plain := library(r.l, []function{{"decode", r.jsonDecode}, {"encode", r.jsonEncode}})
	safe := library(r.l, []function{{"decode", r.safely(r.jsonDecode)}, {"encode", r.safely(r.jsonEncode)}})
	for _, t := range []*lua.LTable{plain, safe} {
		t.RawSetString("null", r.null)
		t.RawSetString("empty_array", r.emptyArray)
	}
	r.l.SetGlobal("cjson", plain)
	r.l.SetGlobal("require", r.l.NewFunction(func(l *lua.LState) int {
		switch l.CheckString(1) {
		case "cjson":
			l.Push(plain)
		case "cjson.safe":
			l.Push(safe)
		default:
			l.RaiseError("only cjson and cjson.safe can be required within sandbox")
		}
		return 1
	}))
}

// safely turns what fn raises into nil and a message.
func (r *run) safely(fn lua.LGFunction) lua.LGFunction {
	raising := r.l.NewFunction(fn)
	return func(l *lua.LState) int {
		top := l.GetTop()
		l.Push(raising)
		for i := 1; i <= top; i++ {
			l.Push(l.Get(i))
		}
		if err := l.PCall(top, 1, nil); err != nil {
			l.Push(lua.LNil)
			l.Push(lua.LString(raised(err)))
			return 2
		}
		return 1
	}
}

func (r *run) jsonDecode(l *lua.LState) int {
	v, err := r.decode([]byte(l.CheckString(1)), cjsonValues)
	if err != nil {
		why := "not JSON"
		if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			why = "not JSON at character " + strconv.FormatInt(e.ByteOffset+1, 10)
		} else if errors.Is(err, errDepth) {
			why = errDepth.Error()
		}
		l.RaiseError("cjson.decode: %s", why)
	}
	l.Push(v)
	return 1
}

func (r *run) jsonEncode(l *lua.LState) int {
	b, fault := r.encode(nil, l.CheckAny(1), 0)
	if fault != "" {
		l.RaiseError("cjson.encode: %s", fault)
	}
	l.Push(lua.LString(b))
	return 1
}

// encode appends a value as JSON. A table whose keys are 1, 2, 3 ... is an
// array, an empty one an object, as cjson has it.
func (r *run) encode(b []byte, v lua.LValue, depth int) (_ []byte, fault string) {
	if depth > maxDepth {
		return nil, "excessive depth"
	}
	if len(b) > MaxString {
		return nil, "the result is too large"
	}
	switch v := v.(type) {
	case *lua.LNilType:
		return append(b, "null"...), ""
	case lua.LBool:
		return strconv.AppendBool(b, bool(v)), ""
	case lua.LNumber:
		return appendNumber(b, float64(v))
	case lua.LString:
		return appendText(b, string(v)), ""
	case *lua.LUserData:
		switch v {
		case r.null:
			return append(b, "null"...), ""
		case r.emptyArray:
			return append(b, "[]"...), ""
		}
	case *lua.LTable:
		largest, count, ok := isArray(v)
		if ok && count > 0 {
			if largest > 10 && largest > 2*count {
				return nil, "excessively sparse array"
			}
			return r.encodeArray(b, v, largest, depth)
		}
		return r.encodeObject(b, v, depth)
	}
	return nil, "type not supported: " + v.Type().String()
}

func (r *run) encodeArray(b []byte, t *lua.LTable, n, depth int) (_ []byte, fault string) {
	b = append(b, '[')
	for i := 1; i <= n; i++ {
		if i > 1 {
			b = append(b, ',')
		}
		if b, fault = r.encode(b, t.RawGetInt(i), depth+1); fault != "" {
			return nil, fault
		}
	}
	return append(b, ']'), ""
}

func (r *run) encodeObject(b []byte, t *lua.LTable, depth int) (_ []byte, fault string) {
	b = append(b, '{')
	first := true
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if !first {
			b = append(b, ',')
		}
		first = false
		switch k := k.(type) {
		case lua.LString:
			b = appendText(b, string(k))
		case lua.LNumber:
			b = append(b, '"')
			if b, fault = appendNumber(b, float64(k)); fault != "" {
				return nil, fault
			}
			b = append(b, '"')
		default:
			return nil, "table key must be a number or string"
		}
		b = append(b, ':')
		if b, fault = r.encode(b, v, depth+1); fault != "" {
			return nil, fault
		}
	}
	return append(b, '}'), ""
}

// appendText appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// appendNumber appends a number: a whole one with all its digits, as far as
// they are certain.
func appendNumber(b []byte, f float64) (_ []byte, fault string) {
	switch {
	case f != f || math.IsInf(f, 0):
		return nil, "must not be NaN or Inf"
	case f == math.Trunc(f) && math.Abs(f) <= maxExact:
		return strconv.AppendInt(b, int64(f), 10), ""
	}
	return append(b, shortFloat(f)...), ""
}
