package match_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/match"
)

// told returns the ids of the hooks that want an event, as Match gives them.
func told(x *match.Index, ev hook.Event) []string {
	hooks, _ := x.Match(nil, ev)
	var out []string
	for _, h := range hooks {
		out = append(out, h.ID)
	}
	return out
}

func TestIndex_Match(t *testing.T) {
	var x match.Index
	for _, h := range []hook.Hook{
		{ID: "c", Source: "crud", Event: "consumers", Enabled: true},
		{ID: "a", Source: "crud", Event: "consumers", Enabled: true},
		{ID: "all", Source: "crud", Enabled: true},
		{ID: "off", Source: "crud", Event: "consumers"},
		{ID: "ws", Source: "crud", Event: "consumers", Enabled: true, Workspace: "team-a"},
		{ID: "other", Source: "balancer", Event: "health", Enabled: true},
	} {
		x.Put(h)
	}
	tests := []struct {
		name string
		ev   hook.Event
		want []string
	}{
		{"hooks of the event in the order of ids, then those of the whole source", hook.Event{Source: "crud", Event: "consumers"}, []string{"a", "c", "all"}},
		{"a hook of a workspace wants only that workspace's events", hook.Event{Source: "crud", Event: "consumers", Workspace: "team-a"}, []string{"a", "c", "ws", "all"}},
		{"another event of the source reaches the hook without an event", hook.Event{Source: "crud", Event: "consumers:create"}, []string{"all"}},
		{"an unknown source reaches nobody", hook.Event{Source: "nothing", Event: "health"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := told(&x, tt.ev); !slices.Equal(got, tt.want) {
				t.Errorf("Match = %v; want %v", got, tt.want)
			}
		})
	}

	t.Run("a hook that is bound to another event leaves its old place", func(t *testing.T) {
		x.Put(hook.Hook{ID: "a", Source: "balancer", Event: "health", Enabled: true})
		if got, want := told(&x, hook.Event{Source: "crud", Event: "consumers"}), []string{"c", "all"}; !slices.Equal(got, want) {
			t.Errorf("old place: %v; want %v", got, want)
		}
		if got, want := told(&x, hook.Event{Source: "balancer", Event: "health"}), []string{"a", "other"}; !slices.Equal(got, want) {
			t.Errorf("new place: %v; want %v", got, want)
		}
	})
	t.Run("a removed hook wants nothing, and removing it again is harmless", func(t *testing.T) {
		x.Remove("c")
		x.Remove("c")
		if got, want := told(&x, hook.Event{Source: "crud", Event: "consumers"}), []string{"all"}; !slices.Equal(got, want) {
			t.Errorf("Match = %v; want %v", got, want)
		}
		if x.Len() != 5 {
			t.Errorf("Len = %d; want 5", x.Len())
		}
	})
}

func keys(t *testing.T, h hook.Hook, s hook.Source, data string) match.Keys {
	t.Helper()
	k, err := match.KeysOf(h, s, hook.Event{Source: "s", Event: "e", Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysOf(t *testing.T) {
	h := hook.Hook{ID: "h", Gen: 7}
	unique := hook.Source{Unique: []string{"consumer", "ip"}}
	slot := hook.Source{Slot: []string{"ip"}}

	t.Run("order of keys and white space do not matter", func(t *testing.T) {
		if a, b := keys(t, h, hook.Source{}, `{"a":1,"b":{"x":true,"y":null}}`), keys(t, h, hook.Source{}, `{ "b": {"y":null,"x":true}, "a": 1 }`); a != b {
			t.Errorf("%v and %v differ", a, b)
		}
	})
	t.Run("numbers, booleans and null count", func(t *testing.T) {
		seen := map[string]string{}
		for _, data := range []string{`{"a":1}`, `{"a":2}`, `{"a":true}`, `{"a":false}`, `{"a":null}`, `{"a":"1"}`, `{}`, `{"a":[1]}`, `{"a":[1,2]}`, `{"a":{}}`, `{"a":12345678901234567890}`, `{"a":12345678901234567891}`} {
			k := keys(t, h, hook.Source{}, data)
			if other, dup := seen[k.Snooze]; dup {
				t.Errorf("%s and %s have one key", data, other)
			}
			seen[k.Snooze] = data
		}
	})
	t.Run("declared unique fields alone make the snooze key, and the slot", func(t *testing.T) {
		a := keys(t, h, unique, `{"consumer":"c","ip":"1","rate":5}`)
		b := keys(t, h, unique, `{"consumer":"c","ip":"1","rate":6}`)
		if a.Snooze != b.Snooze || a.Slot != b.Slot {
			t.Errorf("another rate changed the keys: %v, %v", a, b)
		}
		if a.Sig == b.Sig {
			t.Error("the signature must be that of all data")
		}
		if c := keys(t, h, unique, `{"consumer":"c","ip":"2","rate":5}`); c.Snooze == a.Snooze {
			t.Error("another ip must have another key")
		}
	})
	t.Run("a missing field and a null one differ", func(t *testing.T) {
		if keys(t, h, unique, `{"consumer":"c"}`).Snooze == keys(t, h, unique, `{"consumer":"c","ip":null}`).Snooze {
			t.Error("one key for both")
		}
	})
	t.Run("slot fields make the slot, all data the snooze key", func(t *testing.T) {
		a, b := keys(t, h, slot, `{"ip":"1","health":"healthy"}`), keys(t, h, slot, `{"ip":"1","health":"unhealthy"}`)
		if a.Slot != b.Slot || a.Snooze == b.Snooze {
			t.Errorf("slots %q %q, snooze keys %q %q", a.Slot, b.Slot, a.Snooze, b.Snooze)
		}
	})
	t.Run("without unique and slot there is one slot for the hook, source and event", func(t *testing.T) {
		if keys(t, h, hook.Source{}, `{"a":1}`).Slot != keys(t, h, hook.Source{}, `{"a":2}`).Slot {
			t.Error("two slots")
		}
	})
	t.Run("a hook made anew under its id begins anew", func(t *testing.T) {
		again := h
		again.Gen = 8
		if keys(t, h, hook.Source{}, `{}`) == keys(t, again, hook.Source{}, `{}`) {
			t.Error("the keys of both are equal")
		}
	})
	t.Run("data that is no object is an error", func(t *testing.T) {
		if _, err := match.KeysOf(h, hook.Source{}, hook.Event{Data: []byte(`[1]`)}); err == nil {
			t.Error("no error")
		}
	})
}

func TestJudge(t *testing.T) {
	yes, minute := true, int64(60)
	changes := hook.Hook{OnChange: &yes}
	snoozes := hook.Hook{Snooze: &minute}
	both := hook.Hook{OnChange: &yes, Snooze: &minute}
	const now = 1_000_000
	c := func(id, sig string) match.Candidate {
		return match.Candidate{ID: id, Keys: match.Keys{Sig: sig, Snooze: sig, Slot: "slot"}}
	}
	at := match.Admit

	tests := []struct {
		name   string
		h      hook.Hook
		events []match.Candidate
		memory match.Memory
		want   []match.Verdict
		slot   hook.Slot
	}{
		{"the first event of a slot is admitted", changes, []match.Candidate{c("1", "up")}, match.Memory{}, []match.Verdict{at}, hook.Slot{Sig: "up", Seen: "1", By: "1"}},
		{"an equal one is unchanged, and seen", changes, []match.Candidate{c("2", "up")}, match.Memory{Slot: hook.Slot{Rev: 3, Sig: "up", Seen: "1", By: "1"}}, []match.Verdict{match.Unchanged}, hook.Slot{Rev: 3, Sig: "up", Seen: "2", By: "1", Suppressed: 1, LastEvent: "2", LastReason: "unchanged"}},
		{"a different one is admitted", changes, []match.Candidate{c("2", "down")}, match.Memory{Slot: hook.Slot{Sig: "up", Seen: "1", By: "1"}}, []match.Verdict{at}, hook.Slot{Sig: "down", Seen: "2", By: "2"}},
		{"an older one is stale, whatever it says", changes, []match.Candidate{c("1", "down")}, match.Memory{Slot: hook.Slot{Sig: "up", Seen: "2", By: "2"}}, []match.Verdict{match.Stale}, hook.Slot{Sig: "up", Seen: "2", By: "2", Suppressed: 1, LastEvent: "1", LastReason: "stale"}},
		{"the one that was admitted last is known", changes, []match.Candidate{c("2", "up")}, match.Memory{Slot: hook.Slot{Sig: "up", Seen: "3", By: "2"}}, []match.Verdict{match.Known}, hook.Slot{Sig: "up", Seen: "3", By: "2"}},
		{"flapping in one batch is told each time", changes, []match.Candidate{c("1", "up"), c("2", "down"), c("3", "down"), c("4", "up")}, match.Memory{}, []match.Verdict{at, at, match.Unchanged, at}, hook.Slot{Sig: "up", Seen: "4", By: "4", Suppressed: 1, LastEvent: "3", LastReason: "unchanged"}},
		{"after a give-back the next event is told", changes, []match.Candidate{c("2", "up")}, match.Memory{Slot: hook.Slot{Seen: "1", By: "1"}}, []match.Verdict{at}, hook.Slot{Sig: "up", Seen: "2", By: "2"}},

		{"the first event opens its window, the second is snoozed", snoozes, []match.Candidate{c("1", "x"), c("2", "x"), c("3", "y")}, match.Memory{}, []match.Verdict{at, match.Snoozed, at}, hook.Slot{}},
		{"a window that has passed is opened again", snoozes, []match.Candidate{c("2", "x")}, match.Memory{Windows: map[string]hook.Snooze{"x": {UntilMS: now, By: "1"}}}, []match.Verdict{at}, hook.Slot{}},
		{"the event that opened the window is known", snoozes, []match.Candidate{c("1", "x")}, match.Memory{Windows: map[string]hook.Snooze{"x": {UntilMS: now + 1, By: "1"}}}, []match.Verdict{match.Known}, hook.Slot{}},
		{"also when the window has passed", snoozes, []match.Candidate{c("1", "x")}, match.Memory{Windows: map[string]hook.Snooze{"x": {UntilMS: now - 1, By: "1"}}}, []match.Verdict{match.Known}, hook.Slot{}},

		{"a snoozed event leaves the slot untouched", both, []match.Candidate{c("2", "down")}, match.Memory{Slot: hook.Slot{Sig: "up", Seen: "1", By: "1"}, Windows: map[string]hook.Snooze{"down": {UntilMS: now + 1, By: "0"}}}, []match.Verdict{match.Snoozed}, hook.Slot{Sig: "up", Seen: "1", By: "1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := match.Judge(tt.h, tt.events, tt.memory, now)
			if diff := cmp.Diff(tt.want, r.Verdicts); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.slot, r.Slot); diff != "" {
				t.Errorf("slot (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("a window counts what it dropped, in the batch that opened it too", func(t *testing.T) {
		r := match.Judge(snoozes, []match.Candidate{c("1", "x"), c("2", "x"), c("3", "x"), c("4", "y")}, match.Memory{Windows: map[string]hook.Snooze{"y": {UntilMS: now + 5, By: "0", Suppressed: 9}}}, now)
		want := map[string]hook.Snooze{
			"x": {UntilMS: now + 60_000, By: "1", Suppressed: 2, LastEvent: "3", LastReason: "snoozed"},
			"y": {UntilMS: now + 5, By: "0", Suppressed: 10, LastEvent: "4", LastReason: "snoozed"},
		}
		if diff := cmp.Diff(want, r.Windows); diff != "" {
			t.Errorf("windows (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]bool{"x": true}, r.Opened); diff != "" {
			t.Errorf("opened (-want +got):\n%s", diff)
		}
	})
}

// BenchmarkIndex_Match compares one event that 10 hooks want among 10 hooks and
// among 10,000.
func BenchmarkIndex_Match(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("hooks=%d", n), func(b *testing.B) {
			var x match.Index
			for i := range n {
				event := "consumers"
				if i >= 10 {
					event = fmt.Sprintf("entity%d", i%1000)
				}
				x.Put(hook.Hook{ID: fmt.Sprint(i), Source: "crud", Event: event, Enabled: true})
			}
			ev := hook.Event{Source: "crud", Event: "consumers"}
			b.ReportAllocs()
			var dst []hook.Hook
			for b.Loop() {
				dst, _ = x.Match(dst[:0], ev)
			}
			if len(dst) != 10 {
				b.Fatalf("matched %d; want 10", len(dst))
			}
		})
	}
}
