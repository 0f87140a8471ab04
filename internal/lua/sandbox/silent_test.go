package sandbox_test

import (
	"fmt"
	"strings"
	"testing"
)

// misuse calls every function of the sandbox, and does with every operator, what
// goes wrong with the event's values, and raises the data.nth message that shows
// one of them.
const misuse = `
	local seen, kinds = 0, {}
	local function try(f, ...)
		local ok, e = pcall(f, ...)
		if ok or type(e) ~= "string" or not (e:find("CANARY", 1, true) or e:find("31337", 1, true)) then
			return
		end
		local kind = e:gsub("^function:%d+: ", ""):gsub("%b()", "")
		if kinds[kind] then
			return
		end
		kinds[kind] = true
		seen = seen + 1
		if seen == data.nth then
			error(e, 0)
		end
	end
	local made = {
		function() return data.text end, function() return data.number end, function() return data.format end, function() return -data.number end,
		function() return {data.text} end, function() return {[data.text] = data.number, [data.number] = data.text, year = data.text} end,
		function() return true end, function() return nil end, function() return print end, function() return cjson.null end,
	}
	local todo = {
		function(a, b) return a[b] end, function(a, b) return a[b].x end, function(a, b) a[b] = 1 end, function(a, b) a[b].x = 1 end,
		function(a) return a.CANARY.x end, function(a) a.x.CANARY = 1 end, function(a) return a:CANARY() end, function(a, b) return a[b](b) end,
		function(a, b) return a + b end, function(a, b) return a - b end, function(a, b) return a * b end, function(a, b) return a / b end,
		function(a, b) return a % b end, function(a, b) return a ^ b end, function(a) return -a end, function(a) return #a end,
		function(a, b) return a .. b end, function(a, b) return a < b end, function(a, b) return a <= b end, function(a, b) return a(b) end,
		function(a, b) for i = a, b do return end end, function(a, b) for i = 1, 2, a do return end end, function(a, b) for i in a, b do return end end,
		function(a, b) return coroutine.wrap(function() return a[b].x end)() end, require("cjson.safe").decode, require("cjson.safe").encode,
		tonumber, tostring, select, next, pairs, ipairs, unpack, require, type, pcall, xpcall,
	}
	for _, lib in ipairs({string, table, math, bit, os, io, cjson, coroutine}) do
		for _, f in pairs(lib) do
			if type(f) == "function" then
				todo[#todo + 1] = f
			end
		end
	end
	for _, f in ipairs(todo) do
		for _, a in ipairs(made) do
			try(f, a())
			for _, b in ipairs(made) do
				try(f, a(), b())
				try(f, a(), b(), data.text, data.number)
				try(f, a(), b(), data.number, data.text)
				try(f, a(), b(), data.number, data.number)
			end
		end
	end
	return true
`

// TestSandbox_faultsShowNoValues: whatever is done to the event's values, the
// fault shows none of them, unless it was raised with error.
func TestSandbox_faultsShowNoValues(t *testing.T) {
	n := 1
	for ; n < 200; n++ {
		fault, _ := run(misuse, fmt.Sprintf(`{"text":"CANARY's with key '","number":31337.5,"format":"%%CANARY","nth":%d}`, n))
		if fault == "" {
			break
		}
		if strings.Contains(fault, "CANARY") || strings.Contains(fault, "31337") || fault == "function 1 returned nil" {
			t.Errorf("a fault shows a value: %s", fault)
		}
	}
	if n < 4 {
		t.Errorf("%d messages were found that show values; this test is to look at those of Lua", n-1)
	}
	fault, _ := run("error(data.text)", `{"text":"CANARY"}`)
	if want := "function 1: line 2: CANARY"; fault != want {
		t.Errorf("what a function raises: %q; want %q", fault, want)
	}
}
