package match_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/match"
)

// health is a hook for balancer/health with a filter.
func health(id, filter string) hook.Hook {
	h := hook.Hook{ID: id, Source: "balancer", Event: "health", Enabled: true}
	if filter != "" {
		h.Filter = []byte(filter)
	}
	return h
}

// is is a balancer/health event.
func is(data string) hook.Event {
	return hook.Event{Source: "balancer", Event: "health", Data: []byte(data)}
}

const unhealthy = `{"health": ["unhealthy"]}`

func TestIndex_Match_filters(t *testing.T) {
	var x match.Index
	all := health("all", unhealthy)
	all.Event = ""
	off := health("off", unhealthy)
	off.Enabled = false
	ws := health("ws", unhealthy)
	ws.Workspace = "team-a"
	for _, h := range []hook.Hook{
		health("any", ""), health("down", unhealthy), health("port", `{"port": [{"numeric": [">", 3000]}]}`),
		all, off, ws, health("newer", `{"health": [{"regex": "^un"}]}`), health("null", `null`), health("broken", `{"health":`),
	} {
		x.Put(h)
	}
	tests := []struct {
		name string
		ev   hook.Event
		want []string
	}{
		{"those whose filter fits, and those without one", is(`{"health": "unhealthy", "port": 80}`), []string{"any", "broken", "down", "newer", "null", "all"}},
		{"others when the data differ", is(`{"health": "healthy", "port": 3001}`), []string{"any", "broken", "newer", "null", "port"}},
		{"a filter that this version cannot read holds nothing back", is(`{}`), []string{"any", "broken", "newer", "null"}},
		{"data that cannot be read are told", is(`{"health":`), []string{"any", "broken", "down", "newer", "null", "port", "all"}},
		{"data that are no object are told", is(`["healthy"]`), []string{"any", "broken", "down", "newer", "null", "port", "all"}},
		{"a workspace does not lift the filter", hook.Event{Source: "balancer", Event: "health", Workspace: "team-a", Data: []byte(`{"health": "healthy"}`)}, []string{"any", "broken", "newer", "null"}},
		{"a workspace and a filter", hook.Event{Source: "balancer", Event: "health", Workspace: "team-a", Data: []byte(`{"health": "unhealthy"}`)}, []string{"any", "broken", "down", "newer", "null", "ws", "all"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, again := range []string{"first", "second"} { // read anew, and as it was read
				if got := ids(x.Match(nil, tt.ev)); !slices.Equal(got, tt.want) {
					t.Errorf("the %s Match = %v; want %v", again, got, tt.want)
				}
			}
		})
	}
	t.Run("a hook whose filter changes is matched by the new one", func(t *testing.T) {
		x.Put(health("down", `{"health": ["healthy"]}`))
		if got := ids(x.Match(nil, is(`{"health": "unhealthy"}`))); slices.Contains(got, "down") {
			t.Errorf("Match = %v; want it without down", got)
		}
		if got := ids(x.Match(nil, is(`{"health": "healthy"}`))); !slices.Contains(got, "down") {
			t.Errorf("Match = %v; want down among them", got)
		}
	})
	t.Run("a filter that is taken away", func(t *testing.T) {
		x.Put(health("down", ""))
		if got := ids(x.Match(nil, is(`{}`))); !slices.Contains(got, "down") {
			t.Errorf("Match = %v; want down among them", got)
		}
	})
}

func TestIndex_Match_wants(t *testing.T) {
	off := health("off", unhealthy)
	off.Enabled = false
	ws := health("ws", unhealthy)
	ws.Workspace = "team-a"
	for _, tt := range []struct {
		name string
		h    hook.Hook
		data string
		want bool
	}{
		{"a disabled hook wants nothing", off, `{"health": "unhealthy"}`, false},
		{"nor one of another workspace", ws, `{"health": "unhealthy"}`, false},
		{"nor one whose filter does not fit", health("h", unhealthy), `{"health": "healthy"}`, false},
		{"one whose filter fits does", health("h", unhealthy), `{"health": "unhealthy"}`, true},
		{"and one whose filter cannot be read", health("h", `{"$and": []}`), `{}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var x match.Index
			x.Put(tt.h)
			if got := x.Match(nil, is(tt.data)); (len(got) == 1) != tt.want {
				t.Errorf("Match = %d hooks; want it: %v", len(got), tt.want)
			}
		})
	}
}

// TestIndex_Match_atOnce is worth most under the race detector: the filters are
// read by whoever comes first.
func TestIndex_Match_atOnce(t *testing.T) {
	var x match.Index
	const n = 50
	for i := range n {
		x.Put(health(fmt.Sprintf("%03d", i), fmt.Sprintf(`{"port": [%d, {"numeric": [">", 1000]}]}`, i)))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for port := range n {
				if got, want := ids(x.Match(nil, is(fmt.Sprintf(`{"port": %d}`, port)))), fmt.Sprintf("%03d", port); !slices.Equal(got, []string{want}) {
					t.Errorf("reader %d, port %d: Match = %v; want [%s]", i, port, got, want)
				}
			}
			if got := x.Match(nil, is(`{"port": 1001}`)); len(got) != n {
				t.Errorf("reader %d: %d hooks; want all %d", i, len(got), n)
			}
		})
	}
	wg.Wait()
}

func TestExplain(t *testing.T) {
	worst := health("worst", `{"health": ["unhealthy"], "port": [80]}`)
	worst.Enabled, worst.DisabledReason, worst.Workspace = false, "gone", "team-a"
	tests := []struct {
		name string
		h    hook.Hook
		ev   hook.Event
		want []string
	}{
		{"nothing to say of one that would be told", health("h", unhealthy), is(`{"health": "unhealthy"}`), nil},
		{"a filter that cannot be read is no reason", health("h", `{"health": "unhealthy"}`), is(`{}`), nil},
		{"data that cannot be read are no reason", health("h", unhealthy), is(`{`), nil},
		{"every reason, in the order in which they are asked", worst, hook.Event{Source: "crud", Event: "services:update", Workspace: "team-b", Data: []byte(`{"port": 81}`)}, []string{
			`the hook is for source "balancer", and the event's is "crud"`,
			`the hook is for event "health", and this one is "services:update"`,
			`the hook is disabled: gone`,
			`the hook is for workspace "team-a", and the event names "team-b"`,
			`filter: health is absent; expected "unhealthy"`,
			`filter: port is 81; expected 80`,
		}},
		{"an event without a workspace", hook.Hook{Source: "s", Workspace: "team-a"}, hook.Event{Source: "s", Event: "e"}, []string{
			`the hook is disabled`,
			`the hook is for workspace "team-a", and the event names none`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := match.Explain(tt.h, tt.ev)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestExplain_agreesWithMatch puts hooks of every kind beside events of every
// kind.
func TestExplain_agreesWithMatch(t *testing.T) {
	var hooks []hook.Hook
	for _, source := range []string{"balancer", "crud"} {
		for _, event := range []string{"", "health", "consumers"} {
			for _, enabled := range []bool{true, false} {
				for _, workspace := range []string{"", "team-a"} {
					for _, filter := range []string{"", unhealthy, `{"health": [{"exists": false}]}`, `{"x":`} {
						hooks = append(hooks, hook.Hook{ID: fmt.Sprint(len(hooks)), Source: source, Event: event, Enabled: enabled, Workspace: workspace, Filter: []byte(filter)})
					}
				}
			}
		}
	}
	told := 0
	for _, event := range []string{"health", "consumers", ""} {
		for _, workspace := range []string{"", "team-a", "team-b"} {
			for _, data := range []string{`{"health": "unhealthy"}`, `{}`, `{"health": null}`, `nonsense`} {
				ev := hook.Event{Source: "balancer", Event: event, Workspace: workspace, Data: []byte(data)}
				for _, h := range hooks {
					var x match.Index
					x.Put(h)
					match, why := len(x.Match(nil, ev)) == 1, match.Explain(h, ev)
					if match != (why == nil) {
						t.Fatalf("hook %+v, event %+v: Match = %v, Explain = %q", h, ev, match, why)
					}
					if match {
						told++
					}
				}
			}
		}
	}
	if told == 0 {
		t.Error("nobody was told of anything")
	}
}

// BenchmarkIndex_Match_filters has all hooks in the event's bucket, each with a
// filter, and 10 that want it. With filters "none" all want it: what the same
// costs without them.
func BenchmarkIndex_Match_filters(b *testing.B) {
	const data = `{"upstream_id":"0197a0b1-0000-7000-8000-000000000001","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy"}`
	filters := []struct{ name, wants, ignores string }{
		{"exact", `{"upstream_id":["0197a0b1-0000-7000-8000-000000000001"],"health":["unhealthy"]}`, `{"upstream_id":["0197a0b1-0000-7000-8000-0000000%05d"],"health":["unhealthy"]}`},
		{"cidr", `{"health":["unhealthy"],"ip":[{"cidr":"10.16.0.0/16"}]}`, `{"health":["unhealthy"],"ip":[{"cidr":"192.0.2.0/24"}],"x%d":[{"exists":false}]}`},
		{"range", `{"port":[{"numeric":[">=",3000,"<",4000]}]}`, `{"port":[{"numeric":[">=",4000,"<",1%05d]}]}`},
	}
	for _, f := range filters {
		for _, n := range []int{10, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/hooks=%d", f.name, n), func(b *testing.B) {
				var x match.Index
				for i := range n {
					filter := f.wants
					if i%(n/10) != 0 {
						filter = fmt.Sprintf(f.ignores, i+10)
					}
					x.Put(health(fmt.Sprintf("%05d", i), filter))
				}
				ev := is(data)
				dst := x.Match(nil, ev) // reads the filters
				b.ReportAllocs()
				for b.Loop() {
					dst = x.Match(dst[:0], ev)
				}
				if len(dst) != 10 {
					b.Fatalf("matched %d; want 10", len(dst))
				}
			})
		}
	}
	b.Run("none/hooks=10", func(b *testing.B) {
		var x match.Index
		for i := range 10 {
			x.Put(health(fmt.Sprint(i), ""))
		}
		ev := is(data)
		dst := x.Match(nil, ev)
		b.ReportAllocs()
		for b.Loop() {
			dst = x.Match(dst[:0], ev)
		}
	})
	b.Run("first/hooks=10000", func(b *testing.B) { // filters not read yet
		hooks := make([]hook.Hook, 10_000)
		for i := range hooks {
			hooks[i] = health(fmt.Sprintf("%05d", i), fmt.Sprintf(filters[0].ignores, i))
		}
		ev := is(data)
		for b.Loop() {
			b.StopTimer()
			var x match.Index
			for _, h := range hooks {
				x.Put(h)
			}
			b.StartTimer()
			x.Match(nil, ev)
		}
	})
}

// TestIndex_Match_costsNothingWithoutFilters holds the hot path of deployments
// without filters: no allocation, and the data are not looked at.
func TestIndex_Match_costsNothingWithoutFilters(t *testing.T) {
	var x match.Index
	for i := range 10 {
		x.Put(health(fmt.Sprint(i), ""))
	}
	other := health("other", unhealthy)
	other.Source = "crud"
	x.Put(other)
	off := health("off", unhealthy)
	off.Enabled = false
	x.Put(off)
	ev := is(`{"health": "` + strings.Repeat("x", 100_000) + `"}`)
	dst := x.Match(nil, ev)
	if len(dst) != 10 {
		t.Fatalf("matched %d; want 10", len(dst))
	}
	if n := testing.AllocsPerRun(100, func() { dst = x.Match(dst[:0], ev) }); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}
