package match_test

import (
	"fmt"
	"runtime"
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
				if got := told(&x, tt.ev); !slices.Equal(got, tt.want) {
					t.Errorf("the %s Match = %v; want %v", again, got, tt.want)
				}
			}
		})
	}
	t.Run("a hook whose filter changes is matched by the new one", func(t *testing.T) {
		x.Put(health("down", `{"health": ["healthy"]}`))
		if got := told(&x, is(`{"health": "unhealthy"}`)); slices.Contains(got, "down") {
			t.Errorf("Match = %v; want it without down", got)
		}
		if got := told(&x, is(`{"health": "healthy"}`)); !slices.Contains(got, "down") {
			t.Errorf("Match = %v; want down among them", got)
		}
	})
	t.Run("a filter that is taken away", func(t *testing.T) {
		x.Put(health("down", ""))
		if got := told(&x, is(`{}`)); !slices.Contains(got, "down") {
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
			if got := told(&x, is(tt.data)); (len(got) == 1) != tt.want {
				t.Errorf("Match = %d hooks; want it: %v", len(got), tt.want)
			}
		})
	}
}

// TestIndex_Match_afterEdit has hooks whose filters were read already, and
// changes one of them.
func TestIndex_Match_afterEdit(t *testing.T) {
	before := health("h", unhealthy)
	edit := func(change func(*hook.Hook)) hook.Hook {
		h := before
		change(&h)
		return h
	}
	down, up := is(`{"health": "unhealthy"}`), is(`{"health": "healthy"}`)
	ofTeam := down
	ofTeam.Workspace = "team-a"
	ofCrud := down
	ofCrud.Source = "crud"
	ofEvent := down
	ofEvent.Event = "other"
	tests := []struct {
		name     string
		h        hook.Hook
		wants    []hook.Event
		wantsNot []hook.Event
	}{
		{"another value", edit(func(h *hook.Hook) { h.Filter = []byte(`{"health": ["healthy"]}`) }), []hook.Event{up}, []hook.Event{down}},
		{"another kind of filter", edit(func(h *hook.Hook) { h.Filter = []byte(`{"health": [{"prefix": "heal"}]}`) }), []hook.Event{up}, []hook.Event{down}},
		{"no filter any more", edit(func(h *hook.Hook) { h.Filter = nil }), []hook.Event{up, down}, nil},
		{"a filter that is none", edit(func(h *hook.Hook) { h.Filter = []byte(`{}`) }), []hook.Event{up, down}, nil},
		{"disabled", edit(func(h *hook.Hook) { h.Enabled = false }), nil, []hook.Event{up, down}},
		{"a workspace", edit(func(h *hook.Hook) { h.Workspace = "team-a" }), []hook.Event{ofTeam}, []hook.Event{up, down}},
		{"another source", edit(func(h *hook.Hook) { h.Source = "crud" }), []hook.Event{ofCrud}, []hook.Event{up, down}},
		{"all events of the source", edit(func(h *hook.Hook) { h.Event = "" }), []hook.Event{down, ofEvent}, []hook.Event{up}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, others := range []int{0, 5, 50} {
				var x match.Index
				x.Put(before)
				for i := range others {
					x.Put(health(fmt.Sprintf("other%d", i), fmt.Sprintf(`{"health": ["unhealthy"], "port": [%d]}`, i)))
				}
				wants := func(when string, ev hook.Event, want bool) {
					t.Helper()
					if got := slices.Contains(told(&x, ev), "h"); got != want {
						t.Errorf("among %d others, %s: told of %+v: %v; want %v", others, when, ev, got, want)
					}
				}
				for range 3 { // and back, and again
					wants("before", down, true)
					wants("before", up, false)
					x.Put(tt.h)
					for _, ev := range tt.wants {
						wants("after", ev, true)
					}
					for _, ev := range tt.wantsNot {
						wants("after", ev, false)
					}
					x.Put(before)
				}
				x.Remove("h")
				wants("removed", down, false)
			}
		})
	}
}

func TestIndex_Match_dropped(t *testing.T) {
	var x match.Index
	put := func(id, event, workspace, filter string, enabled bool) {
		x.Put(hook.Hook{ID: id, Source: "balancer", Event: event, Workspace: workspace, Filter: []byte(filter), Enabled: enabled})
	}
	// Of each kind another number, in both places: 1 and 16, 2 and 32, …
	for _, place := range []struct {
		event string
		n     int
	}{{"health", 1}, {"", 16}} {
		kinds := []struct {
			workspace, filter string
			enabled           bool
		}{
			{"", unhealthy, true},
			{"team-a", unhealthy, true},
			{"team-a", unhealthy, false},
			{"team-b", "", true},
		}
		for i, k := range kinds {
			for j := range place.n << i {
				put(fmt.Sprintf("%d-%d-%s", i, j, place.event), place.event, k.workspace, k.filter, k.enabled)
			}
		}
		put("told"+place.event, place.event, "", "", true)
	}
	down, up := `{"health": "unhealthy"}`, `{"health": "healthy"}`
	tests := []struct {
		name, event, workspace, data string
		told                         int
		want                         match.Dropped
	}{
		{"all fit", "health", "team-a", down, 2 + 17 + 34, match.Dropped{Disabled: 68, Workspace: 136}},
		{"a filter", "health", "team-a", up, 2, match.Dropped{Disabled: 68, Workspace: 136, Filter: 17 + 34}},
		{"no workspace", "health", "", up, 2, match.Dropped{Disabled: 68, Workspace: 34 + 136, Filter: 17}},
		{"a workspace without a hook", "health", "team-c", down, 2 + 17, match.Dropped{Disabled: 68, Workspace: 34 + 136}},
		{"another workspace", "health", "team-b", up, 2 + 136, match.Dropped{Disabled: 68, Workspace: 34, Filter: 17}},
		{"another event: those of the whole source", "other", "team-a", up, 1, match.Dropped{Disabled: 64, Workspace: 128, Filter: 16 + 32}},
		{"data that cannot be read", "health", "", `{`, 2 + 17, match.Dropped{Disabled: 68, Workspace: 34 + 136}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hooks, got := x.Match(nil, hook.Event{Source: "balancer", Event: tt.event, Workspace: tt.workspace, Data: []byte(tt.data)})
			if len(hooks) != tt.told || got != tt.want {
				t.Errorf("told %d, dropped %+v; want %d, %+v", len(hooks), got, tt.told, tt.want)
			}
		})
	}
	t.Run("what was in the list before is not counted", func(t *testing.T) {
		ev := hook.Event{Source: "balancer", Event: "other", Data: []byte(up)}
		dst, want := x.Match(nil, ev)
		if dst, got := x.Match(dst, ev); len(dst) != 2 || got != want {
			t.Errorf("told %d, dropped %+v; want 2, %+v", len(dst), got, want)
		}
	})
	t.Run("an event that nobody is bound to", func(t *testing.T) {
		if _, got := x.Match(nil, hook.Event{Source: "crud", Event: "health"}); got != (match.Dropped{}) {
			t.Errorf("dropped %+v; want none", got)
		}
	})
}

// TestIndex_Unreadable also says which filters are read, and when: those that
// an event asks for.
func TestIndex_Unreadable(t *testing.T) {
	var x match.Index
	newer := func(id, workspace string, enabled bool) hook.Hook {
		h := health(id, `{"health": [{"regex": "^un"}]}`)
		h.Workspace, h.Enabled = workspace, enabled
		return h
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := x.Unreadable(); !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q", when, got, want)
		}
	}
	expect("an empty index")
	x.Put(health("good", unhealthy))
	x.Put(newer("b", "", true))
	x.Put(newer("a", "", true))
	x.Put(newer("off", "", false))
	x.Put(newer("ws", "team-a", true))
	x.Put(newer("gone", "", true))
	whole := newer("whole", "", true)
	whole.Event = ""
	x.Put(whole)
	expect("before any event")
	told(&x, hook.Event{Source: "crud", Event: "health", Data: []byte(`{}`)})
	expect("after an event of another source")
	told(&x, is(`{`))
	expect("after data for which no filter is asked")
	told(&x, hook.Event{Source: "balancer", Event: "other", Data: []byte(`{}`)})
	expect("after an event that only the hook of the whole source is bound to", "whole")
	told(&x, is(`{}`))
	x.Remove("gone")
	expect("after an event of no workspace", "a", "b")
	told(&x, is(`{}`))
	expect("each is named once")
	ev := is(`{}`)
	ev.Workspace = "team-a"
	told(&x, ev)
	expect("after one of a workspace", "ws")
	x.Put(newer("a", "", true))
	told(&x, is(`{}`))
	expect("after an edit", "a")
	x.Put(health("a", unhealthy))
	told(&x, is(`{}`))
	expect("after it was mended")
}

// TestIndex_Match_atOnce is worth most under the race detector: the filters are
// read by whoever comes first.
func TestIndex_Match_atOnce(t *testing.T) {
	var x match.Index
	const n = 50
	for i := range n {
		x.Put(health(fmt.Sprintf("%03d", i), fmt.Sprintf(`{"port": [%d, {"numeric": [">", 1000]}]}`, i)))
		own := health(fmt.Sprintf("%03d-own", i), fmt.Sprintf(`{"health": ["unhealthy"], "port": [%d]}`, i))
		own.Workspace = "team-a"
		x.Put(own)
	}
	for i := range 2 {
		broken := health(fmt.Sprintf("broken%d", i), `{`)
		broken.Event = ""
		x.Put(broken)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var unreadable []string
	for i := range 8 {
		wg.Go(func() {
			for port := range n {
				ev := is(fmt.Sprintf(`{"port": %d, "health": "unhealthy"}`, port))
				ev.Workspace = "team-a"
				id := fmt.Sprintf("%03d", port)
				if got, want := told(&x, ev), []string{id, id + "-own", "broken0", "broken1"}; !slices.Equal(got, want) {
					t.Errorf("reader %d, port %d: Match = %v; want %v", i, port, got, want)
				}
				ids := x.Unreadable()
				mu.Lock()
				unreadable = append(unreadable, ids...)
				mu.Unlock()
			}
			if got := told(&x, is(`{"port": 1001}`)); len(got) != n+2 {
				t.Errorf("reader %d: %d hooks; want %d", i, len(got), n+2)
			}
		})
	}
	wg.Wait()
	slices.Sort(unreadable)
	if want := []string{"broken0", "broken1"}; !slices.Equal(unreadable, want) {
		t.Errorf("Unreadable, all together = %q; want %q", unreadable, want)
	}
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
	n := 0
	for _, event := range []string{"health", "consumers", ""} {
		for _, workspace := range []string{"", "team-a", "team-b"} {
			for _, data := range []string{`{"health": "unhealthy"}`, `{}`, `{"health": null}`, `nonsense`} {
				ev := hook.Event{Source: "balancer", Event: event, Workspace: workspace, Data: []byte(data)}
				for _, h := range hooks {
					var x match.Index
					x.Put(h)
					match, why := len(told(&x, ev)) == 1, match.Explain(h, ev)
					if match != (why == nil) {
						t.Fatalf("hook %+v, event %+v: Match = %v, Explain = %q", h, ev, match, why)
					}
					if match {
						n++
					}
				}
			}
		}
	}
	if n == 0 {
		t.Error("nobody was told of anything")
	}
}

// BenchmarkIndex_Match_filters has all hooks in the event's bucket, each with a
// filter, and 10 that want it. With filters "none" all want it: what the same
// costs without them.
func BenchmarkIndex_Match_filters(b *testing.B) {
	for _, f := range benchFilters {
		for _, n := range []int{10, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/hooks=%d", strings.ReplaceAll(f.name, " ", "_"), n), func(b *testing.B) {
				var x match.Index
				for i := range n {
					x.Put(health(fmt.Sprintf("%05d", i), f.filter(i, i%(n/10) == 0)))
				}
				ev := is(benchData)
				dst, _ := x.Match(nil, ev) // reads the filters
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = x.Match(dst[:0], ev)
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
		ev := is(benchData)
		dst, _ := x.Match(nil, ev)
		b.ReportAllocs()
		for b.Loop() {
			dst, _ = x.Match(dst[:0], ev)
		}
	})
	b.Run("first/hooks=10000", func(b *testing.B) { // filters not read yet
		hooks := benchHooks(10_000)
		ev := is(benchData)
		b.ReportAllocs()
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
	b.Run("put/hooks=10000", func(b *testing.B) { // edits of hooks while events come
		hooks := benchHooks(10_000)
		var x match.Index
		for _, h := range hooks {
			x.Put(h)
		}
		ev := is(benchData)
		x.Match(nil, ev)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			x.Put(hooks[i*7919%len(hooks)])
			if i%100 == 0 {
				x.Match(nil, ev)
			}
		}
	})
}

const benchData = `{"upstream_id":"0197a0b1-0000-7000-8000-000000000001","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy"}`

// benchFilters make the filter of hook i, which wants benchData or does not.
var benchFilters = []struct {
	name   string
	filter func(i int, wants bool) string
}{
	{"exact", func(i int, wants bool) string {
		return `{"upstream_id":["` + upstream(i, wants) + `"],"health":["unhealthy"]}`
	}},
	{"same first field", func(i int, wants bool) string {
		return `{"health":["unhealthy","dns_error"],"ip":["10.16.0.2"],"port":[3000],"upstream_id":["` + upstream(i, wants) + `"]}`
	}},
	{"two fields which is rare differs", func(i int, wants bool) string {
		host := "web1.example.test"
		if i%3 == 0 {
			return `{"health":["unhealthy"],"hostname":["` + host + `"],"upstream_id":["` + upstream(i, wants) + `"]}`
		}
		if !wants {
			host = fmt.Sprintf("db%d.example.test", i)
		}
		return `{"health":["unhealthy"],"hostname":["` + host + `"],"upstream_id":["` + upstream(0, true) + `"]}`
	}},
	{"mixed kinds", func(i int, wants bool) string {
		switch up := upstream(i, wants); i % 3 {
		case 0:
			return `{"upstream_id":["` + up + `","x"],"health":[{"anything-but":"healthy"}],"ip":[{"cidr":"10.16.0.0/16"}]}`
		case 1:
			return `{"upstream_id":["` + up + `"],"$or":[{"port":[1]},{"hostname":[{"prefix":"web"}]}]}`
		default:
			port := 3000
			if !wants {
				port += 1 + i
			}
			return fmt.Sprintf(`{"port":[%d.0],"health":["unhealthy"],"hostname":[{"suffix":".example.test"}]}`, port)
		}
	}},
	{"cidr", func(i int, wants bool) string {
		if wants {
			return `{"health":["unhealthy"],"ip":[{"cidr":"10.16.0.0/16"}]}`
		}
		return fmt.Sprintf(`{"health":["unhealthy"],"ip":[{"cidr":"192.0.2.0/24"}],"x%d":[{"exists":false}]}`, i)
	}},
	{"range", func(i int, wants bool) string {
		if wants {
			return `{"port":[{"numeric":[">=",3000,"<",4000]}]}`
		}
		return fmt.Sprintf(`{"port":[{"numeric":[">=",4000,"<",1%05d]}]}`, i)
	}},
}

// upstream is the upstream_id of benchData, or hook i's own.
func upstream(i int, wants bool) string {
	if wants {
		return "0197a0b1-0000-7000-8000-000000000001"
	}
	return fmt.Sprintf("0197a0b1-0000-7000-8000-0000001%05d", i)
}

// benchHooks returns n hooks with filters that can all be told by a value.
func benchHooks(n int) []hook.Hook {
	hooks := make([]hook.Hook, n)
	for i := range hooks {
		hooks[i] = health(fmt.Sprintf("%05d", i), benchFilters[0].filter(i, false))
	}
	return hooks
}

// TestIndex_Put_costsLittle edits hooks while events come: what was made for all
// of them is not made again for each edit.
func TestIndex_Put_costsLittle(t *testing.T) {
	const n = 1000
	hooks := benchHooks(n)
	var x match.Index
	for _, h := range hooks {
		x.Put(h)
	}
	ev := is(benchData)
	dst, _ := x.Match(nil, ev)
	edits := 0
	each := testing.AllocsPerRun(3*n, func() {
		x.Put(hooks[edits*7%n])
		dst, _ = x.Match(dst[:0], ev)
		edits++
	})
	if each > n/4 {
		t.Errorf("an edit among %d hooks, and an event: %v allocations; want some 50", n, each)
	}
}

// TestIndex_Put_leavesNothing edits a hook's filter while events come, so that it
// asks for a field of its own each time: what was made for the fields of long ago
// is given up. Kept, it would be ten times as much as may be here.
func TestIndex_Put_leavesNothing(t *testing.T) {
	const edits, most = 5000, 256 << 10
	var x match.Index
	x.Put(health("stays", unhealthy))
	edit := func(i int) {
		x.Put(health("edited", fmt.Sprintf(`{"field%d": ["x"]}`, i)))
		x.Match(nil, is(`{"health": "unhealthy"}`))
	}
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	edit(0)
	before := live()
	for i := range edits {
		edit(i)
	}
	if grew := live() - before; grew > most {
		t.Errorf("%d edits of one of two hooks leave %d bytes; want less than %d", edits, grew, most)
	}
	runtime.KeepAlive(&x)
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
	dst, _ := x.Match(nil, ev)
	if len(dst) != 10 {
		t.Fatalf("matched %d; want 10", len(dst))
	}
	if n := testing.AllocsPerRun(100, func() { dst, _ = x.Match(dst[:0], ev) }); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}
