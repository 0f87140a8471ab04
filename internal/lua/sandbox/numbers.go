package sandbox

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// mathOfOne are the functions from one number to one number.
var mathOfOne = []struct {
	name string
	fn   func(float64) float64
}{
	{"abs", math.Abs},
	{"acos", math.Acos},
	{"asin", math.Asin},
	{"atan", math.Atan},
	{"ceil", math.Ceil},
	{"cos", math.Cos},
	{"cosh", math.Cosh},
	{"deg", func(f float64) float64 { return f * 180 / math.Pi }},
	{"exp", math.Exp},
	{"floor", math.Floor},
	{"log10", math.Log10},
	{"rad", func(f float64) float64 { return f * math.Pi / 180 }},
	{"sin", math.Sin},
	{"sinh", math.Sinh},
	{"sqrt", math.Sqrt},
	{"tan", math.Tan},
	{"tanh", math.Tanh},
}

// mathOfTwo are those from two.
var mathOfTwo = []struct {
	name string
	fn   func(a, b float64) float64
}{
	{"atan2", math.Atan2},
	{"fmod", math.Mod},
	{"mod", math.Mod},
	{"pow", math.Pow},
	{"ldexp", func(a, b float64) float64 { return math.Ldexp(a, int(max(-4096, min(4096, b)))) }},
}

var mathLib = []function{
	{"frexp", func(l *lua.LState) int {
		f, exp := math.Frexp(float64(l.CheckNumber(1)))
		l.Push(lua.LNumber(f))
		l.Push(lua.LNumber(exp))
		return 2
	}},
	{"modf", func(l *lua.LState) int {
		whole, frac := math.Modf(float64(l.CheckNumber(1)))
		l.Push(lua.LNumber(whole))
		l.Push(lua.LNumber(frac))
		return 2
	}},
	{"log", func(l *lua.LState) int { // LuaJIT's takes a base
		f := math.Log(float64(l.CheckNumber(1)))
		if l.GetTop() > 1 {
			f /= math.Log(float64(l.CheckNumber(2)))
		}
		l.Push(lua.LNumber(f))
		return 1
	}},
	{"max", func(l *lua.LState) int { return best(l, func(a, b lua.LNumber) bool { return a > b }) }},
	{"min", func(l *lua.LState) int { return best(l, func(a, b lua.LNumber) bool { return a < b }) }},
	{"random", func(l *lua.LState) int {
		var first, last int64 = 1, 1
		switch l.GetTop() {
		case 0:
			l.Push(lua.LNumber(rand.Float64()))
			return 1
		case 1:
			last = int64(l.CheckNumber(1))
		default:
			first, last = int64(l.CheckNumber(1)), int64(l.CheckNumber(2))
		}
		if first > last || last-first < 0 || last-first == math.MaxInt64 {
			l.ArgError(l.GetTop(), "interval is empty")
		}
		l.Push(lua.LNumber(first + rand.Int64N(last-first+1)))
		return 1
	}},
}

func best(l *lua.LState, better func(a, b lua.LNumber) bool) int {
	n := l.CheckNumber(1)
	for i := 2; i <= l.GetTop(); i++ {
		if m := l.CheckNumber(i); better(m, n) {
			n = m
		}
	}
	l.Push(n)
	return 1
}

func (r *run) math() *lua.LTable {
	t := library(r.l, mathLib)
	for _, f := range mathOfOne {
		t.RawSetString(f.name, r.l.NewFunction(func(l *lua.LState) int {
			l.Push(lua.LNumber(f.fn(float64(l.CheckNumber(1)))))
			return 1
		}))
	}
	for _, f := range mathOfTwo {
		t.RawSetString(f.name, r.l.NewFunction(func(l *lua.LState) int {
			l.Push(lua.LNumber(f.fn(float64(l.CheckNumber(1)), float64(l.CheckNumber(2)))))
			return 1
		}))
	}
	t.RawSetString("pi", lua.LNumber(math.Pi))
	t.RawSetString("huge", lua.LNumber(math.Inf(1)))
	return t
}

// bitLib is LuaJIT's bit: whole numbers of 32 bits with a sign.
var bitLib = []function{
	{"tobit", func(l *lua.LState) int { return pushBits(l, toBit(l, 1)) }},
	{"bnot", func(l *lua.LState) int { return pushBits(l, ^toBit(l, 1)) }},
	{"bswap", func(l *lua.LState) int { return pushBits(l, bits.ReverseBytes32(toBit(l, 1))) }},
	{"band", func(l *lua.LState) int { return fold(l, func(a, b uint32) uint32 { return a & b }) }},
	{"bor", func(l *lua.LState) int { return fold(l, func(a, b uint32) uint32 { return a | b }) }},
	{"bxor", func(l *lua.LState) int { return fold(l, func(a, b uint32) uint32 { return a ^ b }) }},
	{"lshift", func(l *lua.LState) int { return shift(l, func(a uint32, n int) uint32 { return a << n }) }},
	{"rshift", func(l *lua.LState) int { return shift(l, func(a uint32, n int) uint32 { return a >> n }) }},
	{"arshift", func(l *lua.LState) int {
		return shift(l, func(a uint32, n int) uint32 { return uint32(int32(a) >> n) })
	}},
	{"rol", func(l *lua.LState) int { return shift(l, bits.RotateLeft32) }},
	{"ror", func(l *lua.LState) int {
		return shift(l, func(a uint32, n int) uint32 { return bits.RotateLeft32(a, -n) })
	}},
	{"tohex", func(l *lua.LState) int {
		n := l.OptInt(2, 8)
		format := "%08x"
		if n < 0 {
			n, format = -max(n, -8), "%08X"
		}
		text := fmt.Sprintf(format, toBit(l, 1))
		l.Push(lua.LString(text[8-min(n, 8):]))
		return 1
	}},
}

// toBit is an argument as 32 bits: rounded, and what is above them left out.
func toBit(l *lua.LState, n int) uint32 {
	f := math.Mod(math.RoundToEven(float64(l.CheckNumber(n))), 1<<32)
	if f != f {
		return 0
	}
	return uint32(int64(f))
}

func pushBits(l *lua.LState, n uint32) int {
	l.Push(lua.LNumber(int32(n)))
	return 1
}

func fold(l *lua.LState, op func(a, b uint32) uint32) int {
	n := toBit(l, 1)
	for i := 2; i <= l.GetTop(); i++ {
		n = op(n, toBit(l, i))
	}
	return pushBits(l, n)
}

func shift(l *lua.LState, op func(a uint32, n int) uint32) int {
	return pushBits(l, op(toBit(l, 1), int(toBit(l, 2)&31)))
}

// os is the clock; nothing else of os is there. The time zone is UTC.
func (r *run) os() *lua.LTable {
	return library(r.l, []function{
		{"clock", func(l *lua.LState) int {
			l.Push(lua.LNumber(time.Since(r.begun).Seconds()))
			return 1
		}},
		{"date", osDate},
		{"time", osTime},
		{"difftime", func(l *lua.LState) int {
			l.Push(l.CheckNumber(1) - l.OptNumber(2, 0))
			return 1
		}},
	})
}

func osTime(l *lua.LState) int {
	if l.GetTop() == 0 || l.Get(1) == lua.LNil {
		l.Push(lua.LNumber(time.Now().Unix()))
		return 1
	}
	t := l.CheckTable(1)
	field := func(name string, missing int) int {
		v := t.RawGetString(name)
		if n, ok := v.(lua.LNumber); ok {
			return int(n)
		}
		if s, ok := v.(lua.LString); ok {
			if n, ok := fromText(string(s), 10).(lua.LNumber); ok {
				return int(n)
			}
		}
		if missing < 0 {
			l.RaiseError("field '%s' missing in date table", name)
		}
		return missing
	}
	at := time.Date(field("year", -1), time.Month(field("month", -1)), field("day", -1), field("hour", 12), field("min", 0), field("sec", 0), 0, time.UTC)
	l.Push(lua.LNumber(at.Unix()))
	return 1
}

// dateVerb is what Go's time calls a conversion of strftime, "" for one that is
// not among them.
func dateVerb(c byte) string {
	switch c {
	case 'a':
		return "Mon"
	case 'A':
		return "Monday"
	case 'b':
		return "Jan"
	case 'B':
		return "January"
	case 'c':
		return "Mon Jan _2 15:04:05 2006"
	case 'd':
		return "02"
	case 'D':
		return "01/02/06"
	case 'F':
		return "2006-01-02"
	case 'H':
		return "15"
	case 'I':
		return "03"
	case 'm':
		return "01"
	case 'M':
		return "04"
	case 'p':
		return "PM"
	case 'S':
		return "05"
	case 'T':
		return "15:04:05"
	case 'x':
		return "01/02/06"
	case 'X':
		return "15:04:05"
	case 'y':
		return "06"
	case 'Y':
		return "2006"
	case 'z':
		return "-0700"
	case 'Z':
		return "UTC"
	}
	return ""
}

func osDate(l *lua.LState) int {
	format := strings.TrimPrefix(l.OptString(1, "%c"), "!")
	at := time.Now()
	if l.GetTop() > 1 {
		at = time.Unix(int64(l.CheckNumber(2)), 0)
	}
	at = at.UTC()
	if strings.HasPrefix(format, "*t") {
		t := l.NewTable()
		for name, n := range map[string]int{
			"year": at.Year(), "month": int(at.Month()), "day": at.Day(), "hour": at.Hour(), "min": at.Minute(),
			"sec": at.Second(), "wday": int(at.Weekday()) + 1, "yday": at.YearDay(),
		} {
			t.RawSetString(name, lua.LNumber(n))
		}
		t.RawSetString("isdst", lua.LFalse)
		l.Push(t)
		return 1
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; c {
		case 'j':
			fmt.Fprintf(&b, "%03d", at.YearDay())
		case 'w':
			b.WriteString(strconv.Itoa(int(at.Weekday())))
		case 's':
			b.WriteString(strconv.FormatInt(at.Unix(), 10))
		case '%':
			b.WriteByte('%')
		default:
			layout := dateVerb(c)
			if layout == "" {
				l.ArgError(1, "unknown conversion in the format")
			}
			b.WriteString(at.Format(layout))
		}
		if b.Len() > MaxString {
			tooLarge(l)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

// ioType: nothing here is a file.
func ioType(l *lua.LState) int {
	l.CheckAny(1)
	l.Push(lua.LNil)
	return 1
}

// jit is for scripts that ask what runs them: constants, the same everywhere.
func jit(l *lua.LState) *lua.LTable {
	t := l.NewTable()
	t.RawSetString("os", lua.LString("Linux"))
	t.RawSetString("arch", lua.LString("arm64"))
	t.RawSetString("version", lua.LString("LuaJIT 2.1.0"))
	t.RawSetString("version_num", lua.LNumber(20100))
	return t
}
