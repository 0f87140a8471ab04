package sandbox

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	lua "github.com/yuin/gopher-lua"

	"eventhooks/internal/hook"
	"eventhooks/internal/render"
)

// Bounds of what the scripts of one request write together.
const (
	// MaxWritten is in bytes of values. It leaves a body of the largest size
	// room beside the headers.
	MaxWritten = 2 * render.MaxOutput
	// MaxPieces is of values and texts.
	MaxPieces = 64 << 10
)

// Rendering is one event for the scripts of one request.
type Rendering struct {
	Scripts []string // each a render.Script's Source
	Data    []byte   // the event's, a JSON object
	Event   string
	Source  string
}

// Fault is why a rendering ended early. Its text shows what that of Run does.
type Fault struct {
	Script int // counted from 0
	Line   int // of the script; 0 when it is not known
	Text   string
}

// What a script calls beside what functions reach.
const (
	nameEcho    = "echo"
	nameContext = "context"
)

// Render runs the scripts in their order and returns what each wrote, as
// render.Template.Bind reads it. What one script does to the event's values and
// to its variables, no other sees.
func (s *Sandbox) Render(c Rendering) ([][]byte, *Fault) {
	r := newRun(func(hook.LogLine) {})
	values, err := members(c)
	if err != nil {
		return nil, &Fault{Text: "the event's data is not a JSON object"}
	}
	left := written{bytes: MaxWritten, pieces: MaxPieces}
	out := make([][]byte, len(c.Scripts))
	for i, source := range c.Scripts {
		t := &text{r: r, left: &left, values: values, fields: r.l.NewTable()}
		if fault := s.write(t, source); fault != nil {
			fault.Script = i
			return nil, fault
		}
		out[i] = t.out
	}
	return out, nil
}

// members returns the event's values, each as it was written.
func members(c Rendering) (map[string]jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewReader(c.Data), jsontext.AllowDuplicateNames(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, errNoObject
	}
	values := map[string]jsontext.Value{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		values[key] = v.Clone()
	}
	values["source"], values["event"] = appendText(nil, c.Source), appendText(nil, c.Event)
	return values, nil
}

// write runs one script.
func (s *Sandbox) write(t *text, source string) *Fault {
	l := t.r.l
	proto, err := s.proto(source)
	if err != nil {
		return &Fault{Text: "cannot be compiled"}
	}
	t.r.origin = &origin{notes: map[*lua.LTable]map[lua.LValue]note{}, lists: map[*lua.LTable]struct{}{}}
	fn := l.NewFunctionFromProto(proto)
	fn.Env = t.environment()
	err = l.CallByParam(lua.P{Fn: fn, Protect: true})
	switch {
	case t.left.bytes < 0:
		return &Fault{Text: render.ErrTooLarge.Error()}
	case t.left.pieces < 0:
		return &Fault{Text: "more than " + strconv.Itoa(MaxPieces) + " values and texts are written"}
	case err == nil:
		return nil
	}
	f := &Fault{Text: raised(err)}
	if rest, ok := strings.CutPrefix(f.Text, "line "); ok {
		if line, message, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(line); err == nil {
				f.Line, f.Text = n, message
			}
		}
	}
	return f
}

// written is how much may be written yet; less than nothing when somebody tried
// to write more.
type written struct{ bytes, pieces int }

// text is what one script works on and writes.
type text struct {
	r      *run
	left   *written
	values map[string]jsontext.Value // shared by the scripts, and not changed
	fields *lua.LTable               // those of values that were asked for
	all    bool                      // fields has them all
	out    []byte

	functions map[string]lua.LValue // that only templates have
}

// environment is where a script's free names lead: to what it has set, the
// event's values, what is for templates only, and what functions reach, in this
// order.
func (t *text) environment() *lua.LTable {
	l := t.r.l
	t.functions = map[string]lua.LValue{
		render.ScriptPut: l.NewFunction(t.put),
		nameEcho:         l.NewFunction(t.echo),
	}
	meta := l.NewTable()
	meta.RawSetString("__index", l.NewFunction(func(l *lua.LState) int {
		name := l.CheckString(2)
		v := lua.LValue(lua.LNil)
		if name != render.ScriptPut { // whatever an event has, a script can write
			v = t.field(name)
		}
		if v == lua.LNil {
			switch fn, ok := t.functions[name]; {
			case ok:
				v = fn
			case name == nameContext:
				v = t.context()
			default:
				v = l.G.Global.RawGetString(name)
			}
		}
		l.Push(v)
		return 1
	}))
	env := l.NewTable()
	l.SetMetatable(env, meta)
	return env
}

// field is a value of the event, decoded when it is asked for. Once a script has
// context, it may have changed the value there, or taken it away.
func (t *text) field(name string) lua.LValue {
	if v := t.fields.RawGetString(name); v != lua.LNil || t.all {
		return v
	}
	b, ok := t.values[name]
	if !ok {
		return lua.LNil
	}
	return t.decode(name, b)
}

func (t *text) decode(name string, b jsontext.Value) lua.LValue {
	d := jsontext.NewDecoder(bytes.NewReader(b), jsontext.AllowDuplicateNames(true))
	v, written, err := t.r.decodeValue(d, eventValues, 0)
	if err != nil {
		t.r.l.RaiseError("the event's data cannot be read")
	}
	if v == t.r.null {
		v = lua.LNil
	}
	t.fields.RawSetString(name, v)
	t.r.origin.note(t.fields, lua.LString(name), v, written)
	return v
}

// context is the table of all values.
func (t *text) context() lua.LValue {
	if !t.all {
		for _, name := range slices.Sorted(maps.Keys(t.values)) {
			t.field(name)
		}
		t.all = true
	}
	return t.fields
}

// put is what a script calls; see render.ScriptPut.
func (t *text) put(l *lua.LState) int {
	if name, ok := l.Get(1).(lua.LString); ok {
		l.Push(t.field(string(name)))
		return 1
	}
	n := l.CheckInt(1)
	switch top := l.GetTop(); {
	case top == 1:
		t.piece(l, render.Piece{Node: n, Kind: render.PieceLiteral})
	case top == 2:
		t.value(l, n, l.Get(2))
	default:
		t.path(l, n, top)
	}
	return 0
}

// echo writes its arguments, none of them escaped.
func (t *text) echo(l *lua.LState) int {
	for i := 1; i <= l.GetTop(); i++ {
		t.value(l, 0, l.Get(i))
	}
	return 0
}

// path writes what keys lead to from a variable; nothing when they lead
// nowhere. A number that still is what came with the event is written as it
// came.
func (t *text) path(l *lua.LState, n, top int) {
	head := l.CheckString(2)
	holder, key, v := t.fields, lua.LValue(lua.LString(head)), l.Get(3)
	switch {
	case v == t.fields: // context
		holder = nil
	case v != lua.LNil && (v == l.G.Global.RawGetString(head) || v == t.functions[head]):
		v = t.field(head) // a plain name asks for values of the event only
	}
	for i := 4; i <= top; i++ {
		table, ok := v.(*lua.LTable)
		if !ok {
			v = lua.LNil
			break
		}
		key = l.Get(i)
		if index, ok := key.(lua.LNumber); ok {
			if key = index + 1; !t.isList(table) {
				key = lua.LString(number(index))
			}
		}
		holder, v = table, l.RawGet(table, key)
		if table == t.fields {
			v = t.field(key.String())
		}
	}
	if v != lua.LNil && v != t.r.null {
		if note, ok := t.r.origin.of(holder, key, v); ok {
			t.piece(l, render.Piece{Node: n, Kind: render.PieceNumber, Text: note})
			return
		}
	}
	t.value(l, n, v)
}

// isList reports whether a table is an array of JSON.
func (t *text) isList(table *lua.LTable) bool {
	_, count, ok := isArray(table)
	_, came := t.r.origin.lists[table]
	return ok && (count > 0 || came)
}

// value writes a value. A function is called for it.
func (t *text) value(l *lua.LState, n int, v lua.LValue) {
	for range 8 {
		fn, ok := v.(*lua.LFunction)
		if !ok {
			break
		}
		l.Push(fn)
		l.Call(0, 1)
		v = l.Get(-1)
		l.Pop(1)
	}
	p := render.Piece{Node: n, Kind: render.PieceString}
	switch v := v.(type) {
	case *lua.LNilType:
		p.Kind = render.PieceNil
	case lua.LBool:
		p.Kind, p.Text = render.PieceBool, v.String()
	case lua.LNumber:
		p.Kind, p.Text = render.PieceNumber, number(v)
	case *lua.LTable:
		p.Kind, p.Text = render.PieceJSON, t.table(l, v)
	case *lua.LUserData:
		switch v {
		case t.r.null:
			p.Kind = render.PieceNil
		case t.r.emptyArray:
			p.Kind, p.Text = render.PieceJSON, "[]"
		default:
			p.Text = v.String()
		}
	default:
		p.Text = v.String()
	}
	t.piece(l, p)
}

func (t *text) table(l *lua.LState, v *lua.LTable) string {
	b, fault := t.append(nil, v, 0)
	if fault != "" {
		l.RaiseError("this table cannot be JSON: %s", fault)
	}
	return string(b)
}

// piece writes one piece, as long as there is room. pcall around it does not
// help: who has written too much has.
func (t *text) piece(l *lua.LState, p render.Piece) {
	t.left.pieces--
	t.left.bytes -= len(p.Text)
	if t.left.pieces < 0 || t.left.bytes < 0 {
		tooLarge(l)
	}
	t.out = render.AppendPiece(t.out, p)
}

// append appends a value as JSON: names sorted, and what has not been changed
// as it came with the event.
func (t *text) append(b []byte, v lua.LValue, depth int) (_ []byte, fault string) {
	switch v := v.(type) {
	case lua.LString:
		return appendString(b, string(v))
	case lua.LNumber:
		if f := float64(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return append(b, number(v)...), ""
		}
	}
	table, ok := v.(*lua.LTable)
	switch {
	case !ok:
		return t.r.encode(b, v, depth)
	case depth > maxDepth:
		return nil, "excessive depth"
	case len(b) > MaxWritten:
		return nil, "the result is too large"
	case table == t.fields:
		t.context()
	}
	if t.isList(table) {
		largest, count, _ := isArray(table)
		if largest > 10 && largest > 2*count {
			return nil, "excessively sparse array"
		}
		b = append(b, '[')
		for i := 1; i <= largest; i++ {
			if i > 1 {
				b = append(b, ',')
			}
			if b, fault = t.member(b, table, lua.LNumber(i), table.RawGetInt(i), depth); fault != "" {
				return nil, fault
			}
		}
		return append(b, ']'), ""
	}
	return t.object(b, table, depth)
}

func (t *text) object(b []byte, table *lua.LTable, depth int) (_ []byte, fault string) {
	keys := map[string]lua.LValue{}
	for k, _ := table.Next(lua.LNil); k != lua.LNil; k, _ = table.Next(k) {
		switch k := k.(type) {
		case lua.LString:
			keys[string(k)] = k
		case lua.LNumber:
			keys[number(k)] = k
		default:
			return nil, "table key must be a number or string"
		}
	}
	for k, note := range t.r.origin.notes[table] { // a member that is null is in no table
		if name, ok := k.(lua.LString); ok && note.v == lua.LNil && keys[string(name)] == nil {
			keys[string(name)] = k
		}
	}
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(keys)) {
		if i > 0 {
			b = append(b, ',')
		}
		if b, fault = appendString(b, name); fault != "" {
			return nil, fault
		}
		b = append(b, ':')
		if b, fault = t.member(b, table, keys[name], table.RawGet(keys[name]), depth); fault != "" {
			return nil, fault
		}
	}
	return append(b, '}'), ""
}

func appendString(b []byte, s string) (_ []byte, fault string) {
	b, err := render.AppendString(b, s)
	if err != nil {
		return nil, "the result is too large"
	}
	return b, ""
}

func (t *text) member(b []byte, table *lua.LTable, key, v lua.LValue, depth int) ([]byte, string) {
	if written, ok := t.r.origin.of(table, key, v); ok {
		return append(b, written...), ""
	}
	return t.append(b, v, depth+1)
}

// origin knows how the event's values were written where Lua would write them
// in another way.
type origin struct {
	notes map[*lua.LTable]map[lua.LValue]note // by table and key
	lists map[*lua.LTable]struct{}            // arrays, which empty tables do not show
}

type note struct {
	v       lua.LValue // what it became
	written string
}

func (o *origin) note(t *lua.LTable, key, v lua.LValue, written string) {
	if o == nil || written == "" {
		return
	}
	if n, ok := v.(lua.LNumber); ok && number(n) == written {
		return
	}
	if o.notes[t] == nil {
		o.notes[t] = map[lua.LValue]note{}
	}
	o.notes[t][key] = note{v, written}
}

func (o *origin) list(t *lua.LTable) {
	if o != nil {
		o.lists[t] = struct{}{}
	}
}

// of returns how a member was written that still has its value.
func (o *origin) of(t *lua.LTable, key, v lua.LValue) (string, bool) {
	n, ok := o.notes[t][key]
	if !ok || n.v != v {
		return "", false
	}
	return n.written, true
}

// Global reports whether scripts and functions have a global of this name.
func Global(name string) bool {
	_, ok := globals()[name]
	return ok || name == nameEcho || name == nameContext || name == render.ScriptPut
}

var globals = sync.OnceValue(func() map[string]struct{} {
	names := map[string]struct{}{}
	newRun(nil).l.G.Global.ForEach(func(k, _ lua.LValue) { names[k.String()] = struct{}{} })
	return names
})
