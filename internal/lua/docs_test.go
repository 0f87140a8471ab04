package lua_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
)

// TestDocs runs the functions of docs/lua.md.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/lua.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, part := range strings.Split(string(page), "```lua\n")[1:] {
		source, _, _ := strings.Cut(part, "```")
		sources = append(sources, source)
	}
	p := pool(t, 1)
	tests := []struct {
		event, data, fault string
		log                []hook.LogLine
	}{
		{"consumers", `{"operation":"delete","entity":{"username":"jane"}}`, "", []hook.LogLine{{Level: "warn", Message: "crud/consumers: jane is gone"}}},
		{"health", `{"upstream_id":"u1","hostname":"web1","port":3000,"health":"unhealthy"}`, "", []hook.LogLine{{Level: "err", Message: "upstream u1: web1:3000 is down"}}},
		{"admins", `{"entity":{"username":"eve","email":"eve@example.org"}}`, "function 1: line 4: an admin of a foreign domain: eve", nil},
		{"consumers", `{"entity":{"username":"jane","password":"x"}}`, "", []hook.LogLine{{Level: "notice", Message: `"username":"jane"`}}},
	}
	if len(sources) != len(tests) {
		t.Fatalf("docs/lua.md has %d functions; want %d", len(sources), len(tests))
	}
	for i, c := range tests {
		if err := lua.Check(sources[i]); err != nil {
			t.Errorf("%d: Check: %v", i, err)
		}
		res := run(t, p, lua.Call{Functions: sources[i : i+1], Event: c.event, Source: "crud", Data: []byte(c.data)})
		same := slices.EqualFunc(res.Log, c.log, func(got, want hook.LogLine) bool {
			return got.Level == want.Level && strings.Contains(got.Message, want.Message) && !strings.Contains(got.Message, "password")
		})
		if res.Fault != c.fault || !same {
			t.Errorf("%d: %q, %v; want %q, %v", i, res.Fault, res.Log, c.fault, c.log)
		}
	}
}
