package sandbox_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua/sandbox"
)

// run runs one function's body.
func run(body, data string) (fault string, lines []hook.LogLine) {
	fault = sandbox.New().Run(sandbox.Call{
		Functions: []string{"return function (data, event, source, pid)\n" + body + "\nend"},
		Data:      []byte(data), Event: "consumers", Source: "crud", PID: 42,
	}, func(l hook.LogLine) { lines = append(lines, l) })
	return fault, lines
}

// allowed is the list that Kong documents for its sandbox, and what is ours.
const allowed = `
_VERSION assert error ipairs next pairs pcall print select tonumber tostring type unpack xpcall
bit.arshift bit.band bit.bnot bit.bor bit.bswap bit.bxor bit.lshift bit.rol bit.ror bit.rshift bit.tobit bit.tohex
coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap coroutine.yield
io.type jit.os jit.arch jit.version jit.version_num
math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg math.exp math.floor math.fmod math.frexp
math.huge math.ldexp math.log math.log10 math.max math.min math.mod math.modf math.pi math.pow math.rad math.random math.sin math.sinh math.sqrt
math.tan math.tanh
os.clock os.date os.difftime os.time
string.byte string.char string.find string.format string.gmatch string.gsub string.len string.lower string.match string.rep
string.reverse string.sub string.upper
table.clear table.clone table.concat table.foreach table.foreachi table.getn table.insert table.isarray table.isempty table.maxn
table.move table.new table.nkeys table.pack table.remove table.sort table.unpack
require cjson.decode cjson.encode cjson.null cjson.empty_array
kong.log.alert kong.log.crit kong.log.err kong.log.warn kong.log.notice kong.log.info kong.log.debug kong.log.inspect kong.log.serialize
`

// TestSandbox_names walks all that a function can reach from the names of its
// environment, through tables and metatables.
func TestSandbox_names(t *testing.T) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	sandbox.Open(l)
	found := map[string]bool{}
	var walk func(prefix string, v lua.LValue)
	walk = func(prefix string, v lua.LValue) {
		table, ok := v.(*lua.LTable)
		if !ok {
			found[prefix] = true
			return
		}
		table.ForEach(func(k, v lua.LValue) { walk(strings.TrimPrefix(prefix+"."+k.String(), "."), v) })
	}
	walk("", l.G.Global)
	want := map[string]bool{}
	for _, name := range strings.Fields(allowed) {
		want[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if !want[name] {
			t.Errorf("%s can be reached", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
	meta, ok := l.GetMetatable(lua.LString("")).(*lua.LTable)
	if !ok || meta.RawGetString("__index") != l.GetGlobal("string") {
		t.Error("a string's methods are not those of string")
	}
}

func TestSandbox_escapes(t *testing.T) {
	for _, name := range []string{
		"_G", "_GOPHER_LUA_VERSION", "_printregs", "collectgarbage", "debug", "dofile", "getfenv", "getmetatable", "load", "loadfile", "loadstring",
		"module", "newproxy", "package", "rawequal", "rawget", "rawset", "setfenv", "setmetatable", "ngx", "channel",
		"io.open", "io.read", "io.popen", "io.lines", "os.execute", "os.getenv", "os.exit", "os.remove", "os.rename", "os.tmpname", "os.setenv",
		"string.dump", "math.randomseed", `("").dump`, `("").__index`, `("x").rep.__index`, "kong.request", "kong.configuration", "kong.client",
	} {
		if strings.HasPrefix(name, `("x")`) {
			if fault, _ := run("return "+name+" == nil", "{}"); fault == "" {
				t.Errorf("%s can be indexed", name)
			}
			continue
		}
		if fault, _ := run("return "+name+" == nil", "{}"); fault != "" {
			t.Errorf("%s: %s", name, fault)
		}
	}
	for name, c := range map[string]struct{ body, fault string }{
		"require of what there is elsewhere": {"return require 'os'", "line 2: only cjson and cjson.safe can be required within sandbox"},
		"require of a file":                  {"return require('/etc/passwd')", "line 2: only cjson and cjson.safe can be required within sandbox"},
		"require, hidden":                    {"local ok, err = pcall(require, 'io') error(err, 0)", "line 2: only cjson and cjson.safe can be required within sandbox"},
		"an error in a coroutine":            {"coroutine.wrap(function() error('in there') end)()", "line 2: in there"},
		"an environment of a coroutine":      {"return coroutine.wrap(function() return getfenv == nil and os.getenv == nil end)()", ""},
		"tostring of a name":                 {"return tostring(cjson.null) == 'userdata: NULL'", ""},
		"what is changed is gone after":      {"string.rep = nil  kong.log = nil  cjson.null = 1  return true", ""},
		"a metatable in JSON":                {`local t = cjson.decode('{"__index":1,"__metatable":2}') return t.x == nil`, ""},
	} {
		fault, _ := run(c.body, "{}")
		if fault = strings.TrimPrefix(fault, "function 1: "); fault != c.fault {
			t.Errorf("%s: %q; want %q", name, fault, c.fault)
		}
	}
	box := sandbox.New()
	for i, body := range []string{"string.rep = nil x = 1 return true", "return x == nil and ('a'):rep(2) == 'aa'"} {
		if fault := box.Run(sandbox.Call{Functions: []string{"return function() " + body + " end"}, Data: []byte("{}")}, nil); fault != "" {
			t.Errorf("call %d: %s", i, fault)
		}
	}
}

// TestSandbox_library: each line is true.
func TestSandbox_library(t *testing.T) {
	for _, line := range strings.Split(strings.TrimSpace(truths), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		body := "return " + line
		if strings.HasPrefix(line, "local ") {
			body = line
		}
		if fault, _ := run(body, `{"a":{"b":[1,null,3],"n":null},"big":9007199254740993,"neg":-12345678901234567890,"exact":9007199254740992,"f":0.5,"e":1e400,"s":"ü","t":true,"o":{},"l":[]}`); fault != "" {
			t.Errorf("%s: %s", line, fault)
		}
	}
}

const truths = `
_VERSION == 'Lua 5.1'
event == 'consumers' and source == 'crud' and pid == 42
data.a.b[1] == 1 and data.a.b[2] == cjson.null and data.a.b[3] == 3 and #data.a.b == 3
data.a.n == nil and data.missing == nil and data.t == true and data.f == 0.5 and data.s == 'ü'
data.big == '9007199254740993' and data.neg == '-12345678901234567890' and data.e == '1e400'
data.exact == 9007199254740992
next(data.o) == nil and #data.l == 0
cjson.encode(data.a.b) == '[1,null,3]'
cjson.encode({1, 'x', true, cjson.null, cjson.empty_array, {}}) == '[1,"x",true,null,[],{}]'
cjson.encode({a = {b = 1.5}}) == '{"a":{"b":1.5}}'
cjson.encode('a"\\/\n<ü>') == '"a\\"\\\\/\\n<ü>"'
cjson.encode({[3] = 1}) == '[null,null,1]' and not pcall(cjson.encode, {[1000] = 1})
cjson.encode({[1.5] = 1}) == '{"1.5":1}' and cjson.encode(1e15) == '1000000000000000'
not pcall(cjson.encode, print) and not pcall(cjson.encode, 0/0) and not pcall(cjson.encode, {[true] = 1})
cjson.decode('{"a":null}').a == cjson.null and cjson.decode('[1]')[1] == 1 and cjson.decode('12345678901234567890') > 1e19
not pcall(cjson.decode, '{') and not pcall(cjson.decode, '1 2') and not pcall(cjson.decode, '')
local v, err = require('cjson.safe').decode('[1,') return v == nil and err:find('not JSON', 1, true) ~= nil
require('cjson') == cjson and require('cjson.safe').decode('[2]')[1] == 2
tonumber('10') == 10 and tonumber(' 0x10 ') == 16 and tonumber('1e2') == 100 and tonumber('.5') == 0.5 and tonumber('-0x1') == -1
tonumber('z', 36) == 35 and tonumber('ff', 16) == 255 and tonumber('8', 8) == nil and tonumber('7', 8) == 7 and tonumber('-11', 2) == -3
tonumber('') == nil and tonumber('x') == nil and tonumber('inf') == nil and tonumber('nan') == nil and tonumber('1_000') == nil and tonumber({}) == nil and tonumber('1e') == nil and tonumber('+-5') == nil
tostring(math.huge) == 'inf' and tostring(-math.huge) == '-inf' and tostring(0/0):find('nan') ~= nil and tostring(12) == '12' and tostring(nil) == 'nil'
select('#', 1, nil, nil) == 3 and select(2, 'a', 'b') == 'b' and select(-1, 'a', 'b') == 'b' and not pcall(select, 0)
select('#', unpack({1, 2, nil, 4}, 1, 4)) == 4 and select('#', unpack({}, 2, 1)) == 0
local ok, a, b = pcall(function(...) return ... end, 1, 2) return ok and a == 1 and b == 2
local ok, e = pcall(error, {code = 5}) return not ok and e.code == 5
local ok, e = pcall(error, 'x', 0) return not ok and e == 'x'
local ok, e = pcall(nil) return not ok and e:find('call') ~= nil
local ok, e = xpcall(function(x) error(x, 0) end, function(e) return 'handled ' .. e end, 'it') return not ok and e == 'handled it'
local ok, a = xpcall(function(x) return x end, print, 7) return ok and a == 7
local ok, e = pcall(assert, false, 'why') return not ok and e == 'why' and assert(1, 2) == 1
local n = 0 for i, v in ipairs({1, 2, nil, 4}) do n = n + v end return n == 3
local n = 0 for k, v in pairs({1, 2, a = 3}) do n = n + v end return n == 6
type(print) == 'function' and type(nil) == 'nil' and type(cjson.null) == 'userdata'
('abc'):byte() == 97 and select('#', ('abc'):byte(1, -1)) == 3 and select('#', ('abc'):byte(4)) == 0 and ('abc'):byte(-1) == 99
string.char(72, 105) == 'Hi' and not pcall(string.char, 256)
('hello'):find('l') == 3 and ('hello'):find('xyz') == nil and ('hello'):find('l', 4) == 4 and ('hello'):find('l', -1) == nil and ('a'):find('a', 10) == nil
('a.b'):find('.', 1, true) == 2 and ('hello'):find('') == 1 and ('hello'):find('', 6) == 6 and ('hello'):find('', 7) == nil
local a, b, c = ('key=val'):find('(%w+)=') return a == 1 and b == 4 and c == 'key'
('key=val'):match('=(.+)') == 'val' and ('x'):match('y') == nil and ('hello'):match('()ll') == 3 and ('abc'):match('^b') == nil and ('2026-11'):match('%d+') == '2026'
select('#', ('x'):match('y')) == 1
local t = {} for k, v in ('a=1, b=2'):gmatch('(%w)=(%w)') do t[k] = v end return t.a == '1' and t.b == '2'
('hello world'):gsub('o', '0') == 'hell0 w0rld' and select(2, ('hello world'):gsub('o', '0')) == 2 and ('aaa'):gsub('a', 'b', 2) == 'bba' and ('aaa'):gsub('a', 'b', 0) == 'aaa'
('hello'):gsub('(h)(e)', '%2%1') == 'ehllo' and ('hello'):gsub('l', '%0%0') == 'hellllo' and ('50'):gsub('0', '%%') == '5%'
('$name is'):gsub('%$(%w+)', {name = 'Lua'}) == 'Lua is' and ('abc'):gsub('%w', function(c) if c == 'b' then return 'B' end end) == 'aBc' and ('abc'):gsub('b', {}) == 'abc'
('abc'):gsub('', '-') == '-a-b-c-' and not pcall(string.gsub, 'x', 'x', function() return {} end) and not pcall(string.find, 'x', '[')
('abc'):len() == 3 and #'ü' == 2 and ('ABCü'):lower() == 'abcü' and ('abcü'):upper() == 'ABCü' and ('\255A'):lower() == '\255a'
('ab'):rep(3) == 'ababab' and ('x'):rep(0) == '' and ('x'):rep(-1) == '' and not pcall(string.rep, 'x', 1e9) and ('abc'):reverse() == 'cba'
('hello'):sub(2, 3) == 'el' and ('hello'):sub(-3) == 'llo' and ('hello'):sub(2, -2) == 'ell' and ('hello'):sub(10) == '' and ('hello'):sub(-100, 2) == 'he'
string.format('%d %5d|%-5d|%05d', 1, 2, 3, 4) == '1     2|3    |00004' and string.format('%s %q', 'a', 'b"\n') == 'a "b\\"\\\n"'
string.format('%5.2f %g %e %x %X %o %c %%', 3.14159, 0.1, 1000, 255, 255, 8, 65) == ' 3.14 0.1 1.000000e+03 ff FF 10 A %' and string.format('%i', 3.9) == '3'
string.format('%s %s %s', nil, true, 12) == 'nil true 12' and string.format('%.3s', 'abcdef') == 'abc' and string.format('%10s|', 'x') == '         x|'
not pcall(string.format, '%d', 'x') and not pcall(string.format, '%d') and not pcall(string.format, '%100d', 1) and not pcall(string.format, '%y', 1) and not pcall(string.format, '%')
table.concat({1, 2, 3}, ', ') == '1, 2, 3' and table.concat({}) == '' and table.concat({1, 2, 3}, '', 2, 3) == '23' and not pcall(table.concat, {{}})
local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0) return table.concat(t) == '0123' and table.remove(t) == 3 and table.remove(t, 1) == 0 and #t == 2 and table.remove({}) == nil
local t = {3, 1, 2} table.sort(t) local s = table.concat(t) table.sort(t, function(a, b) return a > b end) return s == '123' and table.concat(t) == '321' and not pcall(table.sort, {1, 'x'})
local t = {1, a = 2} table.clear(t) return next(t) == nil
local t = {1, {2}} local c = table.clone(t) c[1] = 9 return t[1] == 1 and c[2] == t[2]
table.isarray({1, 2}) and table.isarray({}) and not table.isarray({a = 1}) and not table.isarray({[3] = 1}) and table.isempty({}) and not table.isempty({1})
table.nkeys({1, 2, a = 3}) == 3 and table.pack(1, nil, 3).n == 3 and table.unpack({7}) == 7 and table.getn({1, 2}) == 2 and table.maxn({1, [10] = 2}) == 10 and #table.new(10, 0) == 0
local t = table.move({1, 2, 3}, 1, 3, 2) return table.concat(t) == '1123' and table.concat(table.move({1, 2}, 1, 2, 1, {})) == '12'
local n = 0 table.foreach({1, a = 2}, function(k, v) n = n + v end) table.foreachi({5, 6}, function(i, v) n = n + v end) return n == 14 and table.foreachi({1, 2}, function(i) return i end) == 1
bit.band(0xff, 0x0f) == 15 and bit.bor(1, 2, 4) == 7 and bit.bxor(5, 1) == 4 and bit.bnot(0) == -1 and bit.lshift(1, 31) == -2147483648 and bit.rshift(-1, 28) == 15
bit.arshift(-8, 1) == -4 and bit.rol(0x12345678, 8) == 0x34567812 and bit.ror(0x12345678, 8) == 0x78123456 and bit.bswap(0x12345678) == 0x78563412
bit.tohex(255) == '000000ff' and bit.tohex(255, 2) == 'ff' and bit.tohex(255, -4) == '00FF' and bit.tobit(0xffffffff) == -1 and bit.tobit(2^40 + 1) == 1
math.floor(-1.5) == -2 and math.ceil(1.2) == 2 and math.max(1, 5, 3) == 5 and math.min(4, 2) == 2 and math.abs(-1) == 1 and math.fmod(7, 3) == 1 and math.pow(2, 8) == 256
math.huge > 1e308 and math.pi > 3.14 and math.log(8, 2) == 3 and math.log10(100) == 2 and math.ldexp(1, 3) == 8 and select(2, math.modf(1.5)) == 0.5 and math.frexp(8) == 0.5
local n = math.random(3) local f = math.random() return n >= 1 and n <= 3 and f >= 0 and f < 1 and math.random(5, 5) == 5 and not pcall(math.random, 0)
os.date('!%Y-%m-%dT%H:%M:%S', 0) == '1970-01-01T00:00:00' and os.date('*t', 86400).day == 2 and os.time({year = 1970, month = 1, day = 2, hour = 0}) == 86400
os.time() > 1.7e9 and os.clock() >= 0 and os.difftime(5, 3) == 2 and os.date('%j %%', 0) == '001 %' and not pcall(os.date, '%Q')
io.type(1) == nil and jit.version_num == 20100 and type(jit.os) == 'string'
local c = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end) local _, x = coroutine.resume(c, 1) local _, y = coroutine.resume(c, 5) return x == 2 and y == 10 and coroutine.status(c) == 'dead'
local g = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) return g() + g() + g() == 6
coroutine.running() == nil
local t = {} t[5000000] = 1 return t[5000000] == 1
local f = function(...) return select('#', ...) end return f(unpack({}, 1, 5000)) == 5000
`

func TestSandbox_log(t *testing.T) {
	_, lines := run(`
		kong.log.alert("a") kong.log.crit("b") kong.log.err("c ", 1, nil, true) kong.log.warn("d") kong.log.notice("e") kong.log.info("f") kong.log.debug("g")
		kong.log("h", "i") print("j", 2, nil)
		kong.log.inspect({1, "two\n", a = {b = true}, ["c d"] = cjson.null, [10] = print})
		kong.log.err("\255")
		kong.log.serialize()
		kong.log()`, "{}")
	want := []hook.LogLine{
		{Level: "alert", Message: "a"},
		{Level: "crit", Message: "b"},
		{Level: "err", Message: "c 1niltrue"},
		{Level: "warn", Message: "d"},
		{Level: "notice", Message: "e"},
		{Level: "info", Message: "f"},
		{Level: "debug", Message: "g"},
		{Level: "notice", Message: "hi"},
		{Level: "notice", Message: "j\t2\tnil"},
		{Level: "debug", Message: `{ 1, "two\n", [10] = <function>, a = { b = true }, ["c d"] = <userdata> }`},
		{Level: "err", Message: "\ufffd"},
		{Level: "notice", Message: ""},
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines:\n%v\nwant:\n%v", lines, want)
	}
	for name, body := range map[string]string{
		"many":          "for i = 1, 1000 do print(i) end",
		"long":          "kong.log.err(('ü'):rep(100000))",
		"many and long": "for i = 1, 1000 do print(('x'):rep(1000)) end",
		"nested":        "local t = {} t.t = t for i = 1, 100 do kong.log.inspect(t, t, t) end",
	} {
		_, lines := run(body, "{}")
		size := 0
		for _, l := range lines[:len(lines)-1] {
			size += len(l.Message)
		}
		if last := lines[len(lines)-1]; len(lines) > sandbox.MaxLogLines+1 || size > sandbox.MaxLogBytes || !strings.HasPrefix(last.Message, "the rest is not kept") {
			t.Errorf("%s: %d lines, %d bytes, the last %.60q", name, len(lines), size, last.Message)
		}
	}
}

func TestSandbox_badData(t *testing.T) {
	for _, data := range []string{"", "{", "{} {}"} {
		if fault, _ := run("return true", data); fault != "the event's data is not a JSON object" {
			t.Errorf("%q: %q", data, fault)
		}
	}
	if fault, _ := run("return true", strings.Repeat(`{"a":`, 2000)+"1"+strings.Repeat("}", 2000)); fault == "" {
		t.Error("data of any depth is taken")
	}
}

func FuzzSandbox_JSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,null,{"b":"\u0000"}]}`, `{"a":1e999}`, `{"a":{"a":1},"a":2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if len(data) > 1<<10 {
			return
		}
		fault, _ := run("local s = cjson.encode(data) return cjson.encode(cjson.decode(s)) == s", data)
		if strings.Contains(fault, "runtime error") {
			t.Errorf("%q: %s", data, fault)
		}
	})
}

func BenchmarkSandbox_Run(b *testing.B) {
	box := sandbox.New()
	call := sandbox.Call{Functions: []string{"return function(data) return data.entity.username == 'jane' end"}, Data: []byte(`{"operation":"create","entity":{"username":"jane"}}`)}
	for b.Loop() {
		if fault := box.Run(call, nil); fault != "" {
			b.Fatal(fault)
		}
	}
}
