package sandbox

import (
	"strconv"
	"strings"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"

	"eventhooks/internal/hook"
)

// The levels of kong.log; print and kong.log itself are of levelNotice.
var levels = []string{"alert", "crit", "err", "warn", levelNotice, "info", levelDebug}

const (
	levelNotice = "notice"
	levelDebug  = "debug"
)

// openLog makes kong.log and print.
func (r *run) openLog() {
	l := r.l
	log := l.NewTable()
	for _, level := range levels {
		log.RawSetString(level, l.NewFunction(r.logger(level, 1, "")))
	}
	log.RawSetString("inspect", l.NewFunction(r.inspect))
	log.RawSetString("serialize", l.NewFunction(func(l *lua.LState) int {
		l.Push(l.NewTable()) // it tells of a request, and there is none
		return 1
	}))
	meta := l.NewTable()
	meta.RawSetString("__call", l.NewFunction(r.logger(levelNotice, 2, ""))) // the first is log itself
	l.SetMetatable(log, meta)
	kong := l.NewTable()
	kong.RawSetString("log", log)
	l.SetGlobal("kong", kong)
	l.SetGlobal("print", l.NewFunction(r.logger(levelNotice, 1, "\t")))
}

// logger logs its arguments, from the first that counts, as one line.
func (r *run) logger(level string, first int, between string) lua.LGFunction {
	return func(l *lua.LState) int {
		var b strings.Builder
		for i := first; i <= l.GetTop() && b.Len() <= MaxLogBytes; i++ {
			if i > first {
				b.WriteString(between)
			}
			b.WriteString(r.text(l.Get(i)))
		}
		r.say(level, b.String())
		return 0
	}
}

// say hands a line on, as far as there is room for it. The line that takes the
// last place says that there is no more.
func (r *run) say(level, message string) {
	if r.lines >= MaxLogLines {
		return
	}
	r.lines++
	room := MaxLogBytes - r.out
	whole := len(message)
	message = strings.ToValidUTF8(cut(message, room), "\ufffd")
	if r.lines == MaxLogLines || max(whole, len(message)) > room {
		message = cut(message, room)
		r.lines = MaxLogLines
		if message != "" {
			r.log(hook.LogLine{Level: level, Message: message})
		}
		r.log(hook.LogLine{Level: "warn", Message: "the rest is not kept: " + strconv.Itoa(MaxLogLines) + " lines and " + strconv.Itoa(MaxLogBytes>>10) + " KB are"})
		return
	}
	r.out += len(message)
	r.log(hook.LogLine{Level: level, Message: message})
}

// cut returns the first n bytes of s, or fewer where a character ends.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// inspect logs values as one could write them in Lua.
func (r *run) inspect(l *lua.LState) int {
	var b strings.Builder
	for i := 1; i <= l.GetTop(); i++ {
		if i > 1 {
			b.WriteByte(' ')
		}
		r.show(&b, l.Get(i), 0)
	}
	r.say(levelDebug, b.String())
	return 0
}

// show writes a value; it ends where nobody reads on.
func (r *run) show(b *strings.Builder, v lua.LValue, depth int) {
	if b.Len() > MaxLogBytes {
		return
	}
	switch v := v.(type) {
	case lua.LString:
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(cut(string(v), MaxLogBytes)))
		b.WriteByte('"')
	case *lua.LTable:
		r.showTable(b, v, depth)
	default:
		text := r.text(v)
		if v.Type() != lua.LTNumber && v.Type() != lua.LTBool && v.Type() != lua.LTNil {
			text = "<" + v.Type().String() + ">"
		}
		b.WriteString(text)
	}
}

func (r *run) showTable(b *strings.Builder, t *lua.LTable, depth int) {
	if depth == 8 {
		b.WriteString("{...}")
		return
	}
	b.WriteByte('{')
	first := true
	listed := 0
	for k, v := t.Next(lua.LNil); k != lua.LNil && b.Len() <= MaxLogBytes; k, v = t.Next(k) {
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteByte(' ')
		switch k := k.(type) {
		case lua.LNumber:
			if k != lua.LNumber(listed+1) {
				b.WriteString("[" + number(k) + "] = ")
				break
			}
			listed++
		case lua.LString:
			if isName(string(k)) {
				b.WriteString(string(k) + " = ")
			} else {
				b.WriteByte('[')
				r.show(b, k, depth)
				b.WriteString("] = ")
			}
		default:
			b.WriteString("[<" + k.Type().String() + ">] = ")
		}
		r.show(b, v, depth+1)
	}
	if !first {
		b.WriteByte(' ')
	}
	b.WriteByte('}')
}

// isName reports whether s can be written as a name in Lua.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
