// Package sandbox runs the Lua functions of a lambda hook, and the scripts of
// templates: Lua 5.1 with the names that Kong's sandbox has, and nothing else. No function reaches a file,
// a process, the network, the environment, or what another call left behind.
//
// It bounds neither time nor memory: a function that never ends, or takes all
// there is, takes its process along. Package lua runs it in a process that may
// die.
package sandbox

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"

	"eventhooks/internal/hook"
)

// Bounds of one call.
const (
	// MaxString bounds, in bytes, what one call of a library function makes.
	MaxString = 16 << 20
	// MaxErrorBytes bounds what is told of an error that a function raised.
	MaxErrorBytes = 200
	// MaxLogLines and MaxLogBytes bound what a call logs.
	MaxLogLines = 64
	MaxLogBytes = 8 << 10

	maxDepth = 1000 // of JSON values, as cjson has it

	callStack    = 4096 // nested Lua calls
	stackSlots   = 1024
	maxSlots     = 128 << 10 // values on the stack: what unpack and string.byte return at once
	slotStep     = 4 << 10
	maxArrayPart = 4 << 20 // a larger index goes into the hash part: t[1e7] = 1 takes no 160 MB

	// What is kept of compiled functions.
	maxProtos     = 256
	maxProtoBytes = 1 << 20 // of source
)

// chunk is what Lua's own messages call a source.
const chunk = "function"

// Call is one event for the functions of one hook.
type Call struct {
	Functions []string // sources, each a chunk that returns a function
	Data      []byte   // the event's, a JSON object
	Event     string
	Source    string
	PID       int
}

// Sandbox runs calls, one at a time.
type Sandbox struct {
	protos map[string]*lua.FunctionProto // by source
	bytes  int
}

// New returns a Sandbox.
func New() *Sandbox {
	arrays() // before any table is made
	return &Sandbox{protos: map[string]*lua.FunctionProto{}}
}

var arrays = sync.OnceFunc(func() { lua.MaxArrayIndex = maxArrayPart })

// Run runs the functions in their order and stops at the first that does not
// return true. It returns what was wrong, "" when nothing was; that shows no
// event data, and of the source no more than the name of a function that was
// called, except where a function raised it as an error. log gets each line as
// it is logged.
func (s *Sandbox) Run(c Call, log func(hook.LogLine)) string {
	r := newRun(log)
	data, err := r.decode(c.Data, eventValues)
	if err != nil {
		return "the event's data is not a JSON object"
	}
	args := []lua.LValue{data, lua.LString(c.Event), lua.LString(c.Source), lua.LNumber(c.PID)}
	for i, source := range c.Functions {
		if fault := s.runOne(r.l, source, args); fault != "" {
			return "function " + strconv.Itoa(i+1) + fault
		}
	}
	return ""
}

// run is one call.
type run struct {
	l     *lua.LState
	begun time.Time

	null, emptyArray *lua.LUserData

	log        func(hook.LogLine)
	lines, out int // logged

	origin *origin // of the event's values; nil where nobody asks
}

func newRun(log func(hook.LogLine)) *run {
	r := &run{begun: time.Now(), log: log}
	r.l = lua.NewState(lua.Options{
		SkipOpenLibs: true, MinimizeStackMemory: true, CallStackSize: callStack,
		RegistrySize: stackSlots, RegistryMaxSize: maxSlots, RegistryGrowStep: slotStep,
	})
	r.open()
	return r
}

// runOne runs one function; what it returns continues "function 1".
func (s *Sandbox) runOne(l *lua.LState, source string, args []lua.LValue) string {
	proto, err := s.proto(source)
	if err != nil {
		if e, ok := errors.AsType[*parse.Error](err); ok && e.Pos.Line > 0 {
			return ": line " + strconv.Itoa(e.Pos.Line) + ": syntax error"
		}
		return ": cannot be compiled"
	}
	if err := l.CallByParam(lua.P{Fn: l.NewFunctionFromProto(proto), NRet: 1, Protect: true}); err != nil {
		return ": " + raised(err)
	}
	fn, ok := l.Get(-1).(*lua.LFunction)
	if !ok {
		return ": Bad return value from function, expected function type, got " + l.Get(-1).Type().String()
	}
	l.Pop(1)
	if err := l.CallByParam(lua.P{Fn: fn, NRet: 1, Protect: true}, args...); err != nil {
		return ": " + raised(err)
	}
	defer l.Pop(1)
	switch v := l.Get(-1).(type) {
	case lua.LBool:
		if v == lua.LTrue {
			return ""
		}
		return " returned false"
	case *lua.LNilType:
		return " returned nil"
	default:
		return " returned a " + v.Type().String()
	}
}

// proto compiles a source, or finds it compiled.
func (s *Sandbox) proto(source string) (proto *lua.FunctionProto, err error) {
	if p := s.protos[source]; p != nil {
		return p, nil
	}
	defer func() {
		if p := recover(); p != nil {
			proto, err = nil, errors.New("this source cannot be compiled")
		}
	}()
	stmts, err := parse.Parse(strings.NewReader(source), chunk)
	if err != nil {
		return nil, err
	}
	proto, err = lua.Compile(stmts, chunk)
	if err != nil {
		return nil, err
	}
	if len(s.protos) >= maxProtos || s.bytes+len(source) > maxProtoBytes {
		clear(s.protos) // what is needed again is compiled again
		s.bytes = 0
	}
	s.protos[source] = proto
	s.bytes += len(source)
	return proto, nil
}

// raised says which error ended a function.
func raised(err error) string {
	e, ok := errors.AsType[*lua.ApiError](err)
	if !ok {
		return "an error"
	}
	switch v := e.Object.(type) {
	case lua.LString:
		return clean(located(string(v)))
	case lua.LNumber:
		return v.String()
	case nil:
		return "an error"
	default:
		return "error with a " + v.Type().String() + " value"
	}
}

// notTable begins what the library says of an index, and ends with the index:
// a value of the event, or a part of the source.
const notTable = "attempt to index a non-table object("

// located turns "function:3: text", as Lua says it, into "line 3: text", without
// the index where that is what it tells of.
func located(text string) string {
	switch {
	case text == "lua callstack overflow":
		return "stack overflow: more than " + strconv.Itoa(callStack) + " calls within one another"
	case text == "registry overflow":
		return "stack overflow: too many values at once"
	}
	if rest, ok := strings.CutPrefix(text, chunk+":"); ok {
		if line, message, ok := strings.Cut(rest, ": "); ok {
			if _, err := strconv.Atoi(line); err == nil {
				return "line " + line + ": " + located(message)
			}
		}
	}
	if strings.HasPrefix(text, notTable) {
		text, _, _ = strings.Cut(text, " with key")
	}
	return text
}

// clean makes one short line of text that anything can show.
func clean(text string) string {
	var b strings.Builder
	for _, c := range text {
		if unicode.IsControl(c) {
			if c != '\n' && c != '\t' {
				continue
			}
			c = ' '
		}
		if b.Len()+utf8.RuneLen(c) > MaxErrorBytes {
			break
		}
		b.WriteRune(c) // a byte that is no character came as U+FFFD
	}
	return b.String()
}

// open makes all that a function can reach.
func (r *run) open() {
	l := r.l
	r.null, r.emptyArray = l.NewUserData(), l.NewUserData()
	l.SetGlobal("_VERSION", lua.LString("Lua 5.1"))
	for _, f := range base {
		l.SetGlobal(f.name, l.NewFunction(f.fn))
	}
	l.SetGlobal("ipairs", l.NewClosure(ipairs, l.NewFunction(inext)))
	l.SetGlobal("pairs", l.NewClosure(pairs, l.NewFunction(next)))
	l.SetGlobal("tostring", l.NewFunction(r.tostring))

	str := library(l, stringLib)
	l.SetGlobal("string", str)
	meta := l.NewTable()
	meta.RawSetString("__index", str)
	l.SetMetatable(lua.LString(""), meta)

	l.SetGlobal("table", library(l, tableLib))
	l.SetGlobal("math", r.math())
	l.SetGlobal("bit", library(l, bitLib))
	l.SetGlobal("os", r.os())
	l.SetGlobal("io", library(l, []function{{"type", ioType}}))
	l.SetGlobal("jit", jit(l))
	r.openCoroutines()
	r.openLog()
	r.openJSON()
}

// openCoroutines takes the library's own: its names are the six of the list.
func (r *run) openCoroutines() {
	r.l.Push(r.l.NewFunction(lua.OpenCoroutine))
	r.l.Call(0, 0)
}

// function is one of a library. The libraries are slices, not maps: a map would
// be filled at every start of the program.
type function struct {
	name string
	fn   lua.LGFunction
}

func library(l *lua.LState, fns []function) *lua.LTable {
	t := l.CreateTable(0, len(fns))
	for _, f := range fns {
		t.RawSetString(f.name, l.NewFunction(f.fn))
	}
	return t
}

// tooLarge raises what every function says that would make too much.
func tooLarge(l *lua.LState) {
	l.RaiseError("resulting string too large")
}
