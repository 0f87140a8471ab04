package catalog_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"eventhooks/internal/catalog"
	"eventhooks/internal/hook"
)

func TestCatalog_Lookup(t *testing.T) {
	c := catalog.New(nil)
	tests := []struct {
		source, event        string
		fields, unique, slot string
	}{
		{"balancer", "health", "upstream_id ip port hostname health", "", "upstream_id ip port hostname"},
		{"balancer", "certificate-expiring", "upstream_id ip port hostname not_after days_left", "", "upstream_id ip port hostname"},
		{"crud", "admins", "operation entity old_entity schema", "", ""},
		{"crud", "admins:create", "operation entity old_entity schema", "", ""},
		{"crud", "oauth2_tokens:delete", "operation entity old_entity schema", "", ""},
		{"crud", "an_entity_of_some_plugin:update", "operation entity old_entity schema", "", ""},
		{"dao:crud", "create", "operation entity old_entity schema", "", ""},
		{"dao:crud", "update", "operation entity old_entity schema", "", ""},
		{"dao:crud", "delete", "operation entity old_entity schema", "", ""},
		{"rate-limiting-advanced", "rate-limit-exceeded", "consumer ip service rate limit window", "consumer ip service", ""},
		{"oas-validation", "validation-failed", "consumer ip service err", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.source+" "+tt.event+" exists", func(t *testing.T) {
			s, ok := c.Lookup(tt.source, tt.event)
			if !ok || s.Source != tt.source || s.Event != tt.event || !s.BuiltIn {
				t.Fatalf("Lookup = %+v, %v; want it, built in", s, ok)
			}
			for name, lists := range map[string][2]string{
				"fields": {strings.Join(s.Fields, " "), tt.fields},
				"unique": {strings.Join(s.Unique, " "), tt.unique},
				"slot":   {strings.Join(s.Slot, " "), tt.slot},
			} {
				if lists[0] != lists[1] {
					t.Errorf("%s = %q; want %q", name, lists[0], lists[1])
				}
			}
		})
	}
	for _, no := range [][2]string{
		{"", ""},
		{"balancer", ""},
		{"balancer", "Health"},
		{"http-log", "log"},
		{"file-log", "log"},
		{"kong:event_hooks", "ping"},
		{"crud", ""},
		{"crud", ":create"},
		{"crud", "admins:"},
		{"crud", "admins:read"},
		{"crud", "Admins"},
		{"crud", "admins:create:x"},
		{"crud", "ad-mins"},
		{"crud", "admins create"},
		{"crud", "é"},
		{"dao:crud", "read"},
	} {
		t.Run(no[0]+" "+no[1]+" does not", func(t *testing.T) {
			if s, ok := c.Lookup(no[0], no[1]); ok || c.Has(no[0], no[1]) {
				t.Errorf("Lookup = %+v; want none", s)
			}
		})
	}
}

func TestCatalog_custom(t *testing.T) {
	log := hook.Source{Source: "http-log", Event: "log", Fields: []string{"request"}, Changed: 3}
	health := hook.Source{Source: "balancer", Event: "health", Unique: []string{"ip"}, Changed: 4}
	mine := hook.Source{Source: "balancer", Event: "added", Changed: 5}
	system := hook.Source{Source: hook.SystemSource, Event: "hook-disabled", Fields: []string{"forged"}}
	c := catalog.New([]hook.Source{log, health, mine, system})

	for _, want := range []hook.Source{log, health, mine} {
		if got, ok := c.Lookup(want.Source, want.Event); !ok || gocmp.Diff(want, got) != "" {
			t.Errorf("Lookup(%s) = %+v, %v; want %+v", want.Key(), got, ok, want)
		}
	}
	if got, ok := c.Lookup(hook.SystemSource, "hook-disabled"); !ok || !got.BuiltIn {
		t.Errorf("Lookup of an event of ours = %+v; want the built-in one", got)
	}
	want := []string{"balancer", "crud", "dao:crud", "eventhooks", "http-log", "oas-validation", "rate-limiting-advanced"}
	if diff := gocmp.Diff(want, c.Sources()); diff != "" {
		t.Errorf("Sources: -want +got\n%s", diff)
	}
	expiring, _ := c.Lookup("balancer", "certificate-expiring")
	if diff := gocmp.Diff([]hook.Source{mine, expiring, health}, c.Events("balancer")); diff != "" {
		t.Errorf("Events of balancer: -want +got\n%s", diff)
	}
	if !c.HasSource("http-log") || catalog.New(nil).HasSource("http-log") {
		t.Error("http-log exists without being registered, or does not when it is")
	}
	if got := c.Events("nothing"); len(got) != 0 || c.HasSource("nothing") {
		t.Errorf("Events of a source that is not there = %v", got)
	}
}

func TestCatalog_Events(t *testing.T) {
	c := catalog.New(nil)
	for _, source := range c.Sources() {
		events := c.Events(source)
		if len(events) == 0 || !c.HasSource(source) {
			t.Errorf("%s is listed and has no events", source)
		}
		if !slices.IsSortedFunc(events, func(a, b hook.Source) int { return cmp.Compare(a.Event, b.Event) }) {
			t.Errorf("the events of %s are not sorted", source)
		}
		for _, e := range events {
			if got, ok := c.Lookup(source, e.Event); !ok || !c.Has(source, e.Event) || gocmp.Diff(e, got) != "" {
				t.Errorf("Lookup(%s) = %+v, %v; want what is listed: %+v", e.Key(), got, ok, e)
			}
		}
	}
	names := map[string]bool{}
	for _, e := range c.Events("crud") {
		names[e.Event] = true
	}
	for _, want := range []string{"admins", "admins:create", "consumers:update", "workspaces:delete", "acls", "acme_storage:create"} {
		if !names[want] {
			t.Errorf("crud does not list %s", want)
		}
	}
	if got, want := len(names), 4*(45+12); got != want {
		t.Errorf("crud lists %d events; want %d", got, want)
	}
	got := map[string]bool{}
	for _, e := range c.Events(hook.SystemSource) {
		got[e.Event] = true
	}
	want := map[string]bool{"delivery-failed": true, "breaker-opened": true, "breaker-closed": true, "hook-disabled": true}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("events of ours: -want +got\n%s", diff)
	}
}

// A sample shows every field that the event has, and no other.
func TestBuiltIn(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for _, s := range catalog.BuiltIn() {
		key := s.Source + "\x00" + s.Event
		if key <= last {
			t.Errorf("%s is out of order, or there twice", s.Key())
		}
		last = key
		seen[s.Source] = true
		var sample map[string]any
		if err := json.Unmarshal(s.Sample, &sample); err != nil {
			t.Errorf("the sample of %s: %v", s.Key(), err)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(sample)) {
			if !slices.Contains(s.Fields, name) {
				t.Errorf("the sample of %s has %s, which is no field", s.Key(), name)
			}
		}
		for _, name := range s.Fields {
			if _, ok := sample[name]; !ok && name != "old_entity" {
				t.Errorf("the sample of %s lacks %s", s.Key(), name)
			}
			if name == "source" || name == "event" {
				t.Errorf("%s has the field %s, which a webhook's body would hide", s.Key(), name)
			}
		}
		if _, has := sample["old_entity"]; has != strings.HasSuffix(":"+s.Event, ":update") {
			t.Errorf("the sample of %s: old_entity is there = %v; it belongs to updates", s.Key(), has)
		}
		for _, name := range slices.Concat(s.Unique, s.Slot) {
			if !slices.Contains(s.Fields, name) {
				t.Errorf("%s tells events apart by %s, which is no field", s.Key(), name)
			}
		}
		if s.Description == "" || !s.BuiltIn || strings.Contains(s.Key(), " ") {
			t.Errorf("%s has no description, or is not built in", s.Key())
		}
	}
	if len(seen) != 6 || seen["http-log"] {
		t.Errorf("sources = %v", slices.Sorted(maps.Keys(seen)))
	}
}

// What only some events have is none of the event's fields, nor in its sample.
func TestAlso(t *testing.T) {
	if diff := gocmp.Diff([]string{"reminder", "since"}, catalog.Also("balancer", "health")); diff != "" {
		t.Errorf("Also(balancer, health): -want +got\n%s", diff)
	}
	for _, s := range append(catalog.BuiltIn(), hook.Source{Source: "mine", Event: "health"}) {
		also := catalog.Also(s.Source, s.Event)
		if len(also) > 0 && s.Key() != "balancer/health" {
			t.Errorf("Also(%s) = %v; want nothing", s.Key(), also)
		}
		for _, name := range also {
			if slices.Contains(s.Fields, name) || strings.Contains(string(s.Sample), `"`+name+`"`) {
				t.Errorf("%s always has %s", s.Key(), name)
			}
		}
	}
}

// What is returned may be changed without harm to the next caller.
func TestCatalog_lookupsAreApart(t *testing.T) {
	c := catalog.New(nil)
	a, _ := c.Lookup("balancer", "health")
	a.Slot[0], a.Sample[0] = "x", 'x'
	b, _ := c.Lookup("balancer", "health")
	if b.Slot[0] != "upstream_id" || b.Sample[0] != '{' {
		t.Errorf("Lookup = %v, %s after another caller changed its own", b.Slot, b.Sample)
	}
}

func FuzzCatalog_Lookup(f *testing.F) {
	c := catalog.New(nil)
	f.Add("crud", "admins:create")
	f.Add("balancer", "health")
	f.Fuzz(func(t *testing.T, source, event string) {
		s, ok := c.Lookup(source, event)
		if c.Has(source, event) != ok {
			t.Errorf("Has(%q, %q) = %v; Lookup finds it: %v", source, event, !ok, ok)
		}
		if ok && (s.Source != source || s.Event != event || !json.Valid(s.Sample) || !c.HasSource(source)) {
			t.Errorf("Lookup(%q, %q) = %+v", source, event, s)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	c := catalog.New(nil)
	for _, pair := range [][2]string{{"balancer", "health"}, {"crud", "consumers:create"}} {
		b.Run(pair[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Lookup(pair[0], pair[1])
			}
		})
	}
}
