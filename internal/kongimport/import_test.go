package kongimport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/kongimport"
	"eventhooks/internal/schema"
)

func TestRun(t *testing.T) {
	k, eh := newKong(t), newEventHooks(t)
	for n := range 5 {
		k.upstreams = append(k.upstreams, kongUpstream(n, fmt.Sprintf("u%d.example.test", n)))
	}
	k.targets[id(0)] = []object{
		kongTarget(10, "10.0.0.1:80", 100), kongTarget(11, "a.example.test:8000", 0),
		kongTarget(12, "[0000:0000:0000:0000:0000:0000:0000:0001]:443", 7),
	}
	first := []string{
		"created    u0.example.test: targets: 3 created; off in Kong, watched here: every 60 s, 2 in a row decide",
		"created    u1.example.test: targets: none; ", "created    u2", "created    u3", "created    u4",
		"upstreams: 5 created; targets: 3 created",
	}

	out, err := run(t, k, eh, dry)
	if err != nil {
		t.Fatal(err)
	}
	plan := out
	hasLines(t, out, "create     u0.example.test: targets: 3 to create; off in Kong", "create     u1.example.test: targets: none; ",
		"create     u2", "create     u3", "create     u4", "dry run, nothing was written; it would be: "+first[5])
	if w := eh.written(); len(w) > 0 {
		t.Fatalf("a dry run wrote %q", w)
	}

	out, err = run(t, k, eh)
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, first...)
	if done(plan) != out {
		t.Errorf("the dry run's plan:\n%swas carried out as:\n%s", plan, out)
	}
	want := []string{"10.0.0.1:80 100 " + id(10), "[::1]:443 7 " + id(12), "a.example.test:8000 0 " + id(11)}
	if got := eh.addresses(t, id(0)); !slices.Equal(got, want) {
		t.Errorf("targets = %q; want %q", got, want)
	}
	if got := eh.at(t, id(4), "name"); got != "u4.example.test" {
		t.Errorf("name = %v; want Kong's", got)
	}
	if n := len(eh.written()); n != 8 {
		t.Errorf("%d writes; want 5 upstreams and 3 targets", n)
	}

	t.Run("a second import writes nothing", func(t *testing.T) {
		out, err := run(t, k, eh)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "unchanged  u0.example.test: targets: 3 unchanged\n"[:44], "unchanged  u1", "unchanged  u2", "unchanged  u3", "unchanged  u4",
			"upstreams: 5 unchanged; targets: 3 unchanged")
		if w := eh.written(); len(w) > 0 {
			t.Errorf("wrote %q", w)
		}
	})
	t.Run("and a third what has changed", func(t *testing.T) {
		k.change(func() {
			edit(k.upstreams[1], "host_header", `"web.example.test"`)
			edit(k.upstreams[1], "healthchecks.active.http_path", `"/healthz"`)
			edit(k.upstreams[2], "algorithm", `"least-connections"`)
			k.targets[id(0)][1]["weight"] = 50.0
			k.targets[id(3)] = []object{kongTarget(13, "10.0.0.9:80", 1)}
		})
		out, err := run(t, k, eh)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "updated    u0.example.test: targets: 1 updated, 2 unchanged",
			"updated    u1.example.test: targets: none; changed: healthchecks.active.http_path, host_header; off in Kong: intervals and thresholds stay as they are here",
			"unchanged  u2", "updated    u3.example.test: targets: 1 created", "unchanged  u4",
			"upstreams: 3 updated, 2 unchanged; targets: 1 created, 1 updated, 2 unchanged")
		if n := len(eh.written()); n != 3 {
			t.Errorf("%d writes; want an upstream and two targets", n)
		}
		if got := eh.at(t, id(1), "healthchecks.active.http_path"); got != "/healthz" {
			t.Errorf("http_path = %v; want Kong's", got)
		}
	})
}

// TestRun_leftOut holds what counts as Kong's default against what is taken here
// when it is put as it is.
func TestRun_leftOut(t *testing.T) {
	row := kongUpstream(1, "web.example.test")
	doc, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.NewUpstream(doc, id(1), "", nil); err != nil {
		t.Fatalf("Kong's defaults are refused here: %v", err)
	}
	eh := newEventHooks(t)
	out, err := run(t, newKong(t, row), eh, dry)
	if err != nil || strings.Contains(out, "left out") {
		t.Errorf("of Kong's defaults something is left out:\n%s%v", out, err)
	}
	for path, value := range map[string]string{
		"algorithm": `"consistent-hashing"`, "slots": `1000`, "hash_on": `"header"`, "hash_fallback": `"ip"`,
		"hash_on_header": `"x"`, "hash_on_cookie_path": `"/x"`, "sticky_sessions_cookie": `"c"`,
		"client_certificate": `{"id":"x"}`, "healthchecks.threshold": `50`,
		"healthchecks.passive.unhealthy.http_failures": `3`,
		"healthchecks.passive.healthy.http_statuses":   `[200]`,
		"healthchecks.passive.unhealthy.http_statuses": `[]`,
		"healthchecks.passive.type":                    `"tcp"`,
		"healthchecks.active.of_tomorrow":              `[1]`,
		"healthchecks.active.unhealthy.of_tomorrow":    `true`,
		"of_tomorrow": `{"a":[{"b":0}]}`,
	} {
		t.Run(path, func(t *testing.T) {
			row := kongUpstream(1, "web.example.test", path, value)
			name := path
			if strings.HasPrefix(path, "healthchecks.passive") {
				name = "healthchecks.passive"
			}
			if path == "client_certificate" {
				name = "client_certificate (probes show none)"
			}
			out, err := run(t, newKong(t, row), eh, dry)
			if err != nil || !strings.Contains(out, "left out, as nothing here does it: "+name+"\n") {
				t.Errorf("printed:\n%s%v; want that %s is left out", out, err, name)
			}
		})
	}
	out, err = run(t, newKong(t, kongUpstream(1, "web.example.test", "of_tomorrow", `{"a":[],"b":{"c":null,"d":""},"e":0}`)), eh, dry)
	if err != nil || strings.Contains(out, "left out") {
		t.Errorf("what says nothing is left out:\n%s%v", out, err)
	}
}

func TestRun_zeros(t *testing.T) {
	const active = "healthchecks.active."
	counts := []string{
		"healthy.interval", "unhealthy.interval", "healthy.successes",
		"unhealthy.tcp_failures", "unhealthy.timeouts", "unhealthy.http_failures",
	}
	read := func(t *testing.T, eh *eventHooks) (got []float64) {
		for _, c := range counts {
			got = append(got, eh.at(t, id(1), active+c).(float64))
		}
		return got
	}
	tests := []struct {
		name  string
		edits []string
		opts  []func(*kongimport.Options)
		want  []float64
		note  string
	}{
		{"off in Kong: our defaults", nil, nil, []float64{60, 60, 2, 2, 2, 2}, "watched here"},
		{"off in Kong, exact: zeros", nil, []func(*kongimport.Options){exact}, []float64{0, 0, 0, 0, 0, 0}, "not watched, as in Kong"},
		{
			"off in Kong, but with thresholds: those are kept",
			[]string{active + "healthy.successes", "5", active + "unhealthy.timeouts", "7"},
			nil,
			[]float64{60, 60, 5, 2, 7, 2},
			"watched here",
		},
		{
			"on in Kong: zeros are Kong's word",
			[]string{active + "healthy.interval", "5", active + "unhealthy.http_failures", "3"},
			nil,
			[]float64{5, 0, 0, 0, 0, 3},
			"",
		},
		{"on in Kong, and blind", []string{active + "unhealthy.interval", "2.5"}, nil, []float64{0, 2.5, 0, 0, 0, 0}, "never becomes unhealthy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, eh := newKong(t, kongUpstream(1, "web", tt.edits...)), newEventHooks(t)
			out, err := run(t, k, eh, tt.opts...)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, eh); !slices.Equal(got, tt.want) {
				t.Errorf("%v = %v; want %v", counts, got, tt.want)
			}
			if tt.note == "" && strings.Count(out, ";") > 1 || !strings.Contains(out, tt.note) {
				t.Errorf("printed %s; want %q and no other note", out, tt.note)
			}
			out, err = run(t, k, eh, tt.opts...)
			if err != nil || !strings.HasPrefix(out, "unchanged") {
				t.Errorf("the second import: %s%v; want unchanged", out, err)
			}
		})
	}
	t.Run("what was set here stays while Kong says nothing, and yields when it does", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "web")), newEventHooks(t)
		if _, err := run(t, k, eh); err != nil {
			t.Fatal(err)
		}
		eh.call(t, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":30},"unhealthy":{"interval":15,"timeouts":9}}}}`, 200)
		k.change(func() { edit(k.upstreams[0], "tags", `["prod"]`) })
		if out, err := run(t, k, eh); err != nil || !strings.HasPrefix(out, "updated    web: targets: none; changed: tags;") {
			t.Errorf("printed %s%v; want the tags changed", out, err)
		}
		if got, want := read(t, eh), []float64{30, 15, 2, 2, 9, 2}; !slices.Equal(got, want) {
			t.Errorf("%v = %v; want %v", counts, got, want)
		}
		k.change(func() { edit(k.upstreams[0], active+"healthy.interval", "7") })
		if out, err := run(t, k, eh); err != nil || !strings.HasPrefix(out, "updated") {
			t.Errorf("printed %s%v; want updated", out, err)
		}
		if got, want := read(t, eh), []float64{7, 0, 0, 0, 0, 0}; !slices.Equal(got, want) {
			t.Errorf("%v = %v; want Kong's, %v", counts, got, want)
		}
	})
}

// TestRun_beyondKong is about what Kong has no field for.
func TestRun_beyondKong(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "web", "healthchecks.active.type", `"grpc"`)), newEventHooks(t)
	out, err := run(t, k, eh)
	if err != nil || !strings.Contains(out, "; asked by gRPC's health protocol, which Kong does not do") {
		t.Errorf("printed %s%v; want a note on gRPC", out, err)
	}
	eh.call(t, "PATCH", "/upstreams/web", `{"remind_every":3600,"healthchecks":{"active":{"grpc_service":"shop.Cart","certificate_expiry_days":30}}}`, 200)
	if out, err := run(t, k, eh); err != nil || !strings.HasPrefix(out, "unchanged") {
		t.Errorf("printed %s%v; want unchanged", out, err)
	}
	k.change(func() { edit(k.upstreams[0], "host_header", `"web.example.test"`) })
	if out, err := run(t, k, eh); err != nil || !strings.HasPrefix(out, "updated    web: targets: none; changed: host_header;") {
		t.Errorf("printed %s%v; want host_header updated", out, err)
	}
	for path, want := range map[string]any{
		"remind_every": 3600.0, "healthchecks.active.grpc_service": "shop.Cart",
		"healthchecks.active.certificate_expiry_days": 30.0, "host_header": "web.example.test",
	} {
		if got := eh.at(t, id(1), path); got != want {
			t.Errorf("%s = %v; want %v", path, got, want)
		}
	}
}

func TestRun_tags(t *testing.T) {
	k, eh := newKong(t,
		kongUpstream(1, "both", "tags", `["a","b"]`), kongUpstream(2, "one", "tags", `["a"]`),
		kongUpstream(3, "other", "tags", `["b","c"]`), kongUpstream(4, "none"), kongUpstream(5, "again", "tags", `["b","a"]`),
	), newEventHooks(t)
	k.targets[id(1)] = []object{kongTarget(10, "10.0.0.1:80", 100)} // without tags: those of the upstream count
	eh.call(t, "POST", "/upstreams", `{"name":"mine"}`, 201)
	tagged := func(tags string) func(*kongimport.Options) {
		return func(o *kongimport.Options) { o.Tags = tags; o.DryRun = true }
	}
	out, err := run(t, k, eh, tagged("a,b"))
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "create     both: targets: 1 to create", "create     again", "dry run, nothing was written; it would be: upstreams: 2 created;")
	out, err = run(t, k, eh, tagged("a/c"))
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "create     both", "create     one", "create     other", "create     again", "dry run, nothing was written; it would be: upstreams: 4 created;")
}

func TestRun_workspace(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "web")), newEventHooks(t)
	k.workspace = "team one"
	k.targets[id(1)] = []object{kongTarget(10, "10.0.0.1:80", 100)}
	out, err := run(t, k, eh, func(o *kongimport.Options) { o.Workspace = "team one"; o.Kong += "/" })
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "created    web: targets: 1 created", "upstreams: 1 created; targets: 1 created")
	_, err = run(t, k, eh, func(o *kongimport.Options) { o.Workspace = "team two" })
	if err == nil || !strings.Contains(err.Error(), "is there a workspace of that name?") {
		t.Errorf("error = %v; want one that asks for the workspace", err)
	}
}

func TestRun_onlyHere(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "web")), newEventHooks(t)
	k.targets[id(1)] = []object{kongTarget(10, "10.0.0.1:80", 100)}
	if _, err := run(t, k, eh); err != nil {
		t.Fatal(err)
	}
	eh.call(t, "PUT", "/upstreams/"+id(7), `{"name":"mine"}`, 200)
	eh.call(t, "PUT", "/upstreams/web/targets/"+id(17), `{"target":"10.0.0.7:80"}`, 200)
	eh.written()
	out, err := run(t, k, eh)
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "unchanged  web: targets: 1 unchanged, 1 only here; targets that Kong does not list: 10.0.0.7:80",
		"only here  mine: Kong does not list it; if nobody needs it, DELETE /upstreams/"+id(7),
		"upstreams: 1 unchanged, 1 only here; targets: 1 unchanged, 1 only here")
	if w := eh.written(); len(w) > 0 {
		t.Errorf("wrote %q", w)
	}
}

func TestRun_refused(t *testing.T) {
	k, eh := newKong(t,
		kongUpstream(1, "10.0.0.1"),
		kongUpstream(2, "srv", "use_srv_name", "true"),
		kongUpstream(3, "web"),
		kongUpstream(4, "far\x1b[2Jaway\u202e\n"),
		kongUpstream(5, "many", "healthchecks.active.healthy.successes", "255", "healthchecks.active.healthy.interval", "5"),
		object{"id": "../../tokens", "name": "climber"},
		object{"name": "nobody"},
		kongUpstream(8, "healthless", "healthchecks", `[]`),
	), newEventHooks(t)
	k.targets[id(3)] = []object{
		kongTarget(10, "10.0.0.1:80", 100), kongTarget(11, "not a host:80", 100),
		kongTarget(12, "neither is:80", 100),
		{"id": "x", "target": "10.0.0.2:80"},
		kongTarget(13, "10.0.0.3:80", 70000),
	}
	out, err := run(t, k, eh)
	if !errors.Is(err, kongimport.ErrIncomplete) || !strings.Contains(err.Error(), ": 6 upstreams and 4 targets refused; ") {
		t.Errorf("error = %v; want ErrIncomplete with counts", err)
	}
	hasLines(t, out,
		"refused    10.0.0.1: schema violation (name: Invalid name; no ip addresses allowed); change that in Kong",
		"skipped    srv: use_srv_name: ",
		"created    web: targets: 1 created, 4 refused",
		"refused    web, target not a host:80: schema violation (target: Invalid target ('not a host:80')",
		"refused    web, target neither is:80: ",
		"refused    web, target 10.0.0.2:80: id: not a UUID",
		"refused    web, target 10.0.0.3:80: schema violation (weight: value should be between 0 and 65535)",
		"refused    far",
		"refused    many: schema violation (healthchecks.active.healthy.successes: value should be between 0 and 254)",
		"refused    climber: id: not a UUID", "refused    nobody: id: not a UUID",
		"refused    healthless: schema violation (healthchecks: expected a record)",
		"upstreams: 1 created, 1 skipped, 6 refused; targets: 1 created, 4 refused",
	)
	if strings.ContainsAny(out, "\x1b\u202e") {
		t.Error("a name of Kong's steers the terminal")
	}
	if _, err := run(t, newKong(t, kongUpstream(2, "srv", "use_srv_name", "true")), eh); err != nil {
		t.Errorf("error = %v; what is skipped is no fault", err)
	}
}

func TestRun_names(t *testing.T) {
	t.Run("a name that another id has here is refused", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "web"), kongUpstream(2, "api")), newEventHooks(t)
		eh.call(t, "PUT", "/upstreams/"+id(9), `{"name":"web"}`, 200)
		for _, tt := range []struct {
			dry   bool
			begin string
		}{{true, "create     api"}, {false, "created    api"}} {
			out, err := run(t, k, eh, func(o *kongimport.Options) { o.DryRun = tt.dry })
			if !errors.Is(err, kongimport.ErrIncomplete) {
				t.Errorf("error = %v; want ErrIncomplete", err)
			}
			lines := strings.Split(out, "\n")
			if !strings.HasPrefix(lines[0], "refused    web: name: upstream "+id(9)+" has it here already; rename or delete that one") ||
				!strings.HasPrefix(lines[1], tt.begin) || !strings.HasPrefix(lines[2], "only here  web") {
				t.Errorf("printed:\n%s", out)
			}
		}
	})
	t.Run("names that move along are moved from the last on", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b"), kongUpstream(3, "c")), newEventHooks(t)
		if _, err := run(t, k, eh); err != nil {
			t.Fatal(err)
		}
		k.change(func() {
			for i, name := range []string{"b", "c", "d"} {
				k.upstreams[i]["name"] = name
			}
		})
		plan, err := run(t, k, eh, dry)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, plan, "update     d: ", "update     c: ", "update     b: ", "dry run, nothing was written; it would be: upstreams: 3 updated;")
		if _, err := run(t, k, eh); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"b", "c", "d"} {
			if got := eh.at(t, id(i+1), "name"); got != name {
				t.Errorf("upstream %d is called %v; want %s", i+1, got, name)
			}
		}
	})
	t.Run("names that were exchanged are for a person", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b")), newEventHooks(t)
		if _, err := run(t, k, eh); err != nil {
			t.Fatal(err)
		}
		k.change(func() { k.upstreams[0]["name"], k.upstreams[1]["name"] = "b", "a" })
		out, err := run(t, k, eh)
		if !errors.Is(err, kongimport.ErrIncomplete) {
			t.Errorf("error = %v; want ErrIncomplete", err)
		}
		hasLines(t, out, "refused    b: name: upstream "+id(2), "refused    a: name: upstream "+id(1), "upstreams: 2 refused")
	})
}

func TestRun_targets(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "web")), newEventHooks(t)
	set := func(rows ...object) { k.change(func() { k.targets[id(1)] = rows }) }
	set(kongTarget(10, "a:80", 100), kongTarget(11, "b:80", 100))
	if _, err := run(t, k, eh); err != nil {
		t.Fatal(err)
	}
	t.Run("one that has another id in Kong by now is the same one here", func(t *testing.T) {
		set(kongTarget(20, "a:80", 5), kongTarget(11, "b:80", 100))
		out, err := run(t, k, eh)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "updated    web: targets: 1 updated, 1 unchanged", "upstreams: 1 updated;")
		if got, want := eh.addresses(t, "web"), []string{"a:80 5 " + id(10), "b:80 100 " + id(11)}; !slices.Equal(got, want) {
			t.Errorf("targets = %q; want %q", got, want)
		}
		if out, err := run(t, k, eh); err != nil || !strings.HasPrefix(out, "unchanged") {
			t.Errorf("again: %s%v; want unchanged", out, err)
		}
	})
	t.Run("addresses that move along", func(t *testing.T) {
		set(kongTarget(10, "b:80", 5), kongTarget(11, "c:80", 100))
		out, err := run(t, k, eh)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "updated    web: targets: 2 updated", "upstreams: 1 updated;")
		if got, want := eh.addresses(t, "web"), []string{"b:80 5 " + id(10), "c:80 100 " + id(11)}; !slices.Equal(got, want) {
			t.Errorf("targets = %q; want %q", got, want)
		}
	})
	t.Run("an address that one has which is only here", func(t *testing.T) {
		eh.call(t, "PUT", "/upstreams/web/targets/"+id(30), `{"target":"d:80"}`, 200)
		set(kongTarget(10, "d:80", 5), kongTarget(11, "c:80", 100))
		out, err := run(t, k, eh)
		if !errors.Is(err, kongimport.ErrIncomplete) {
			t.Errorf("error = %v; want ErrIncomplete", err)
		}
		if err != nil && !strings.Contains(err.Error(), ": 1 target refused; ") {
			t.Errorf("error = %v; want one that counts targets only", err)
		}
		hasLines(t, out, "unchanged  web: targets: 1 unchanged, 1 refused, 1 only here",
			"refused    web, target d:80: target: target "+id(30)+" has this address here already", "upstreams: 1 unchanged;")
	})
	t.Run("two that are the same address here", func(t *testing.T) {
		set(kongTarget(40, "[::1]:80", 5), kongTarget(41, "[0:0:0:0:0:0:0:1]:80", 100))
		out, err := run(t, k, eh)
		if !errors.Is(err, kongimport.ErrIncomplete) {
			t.Errorf("error = %v; want ErrIncomplete", err)
		}
		if !strings.Contains(out, "refused    web, target [::1]:80: target: target "+id(40)+" has this address") {
			t.Errorf("printed:\n%s", out)
		}
	})
	t.Run("what only balances is told", func(t *testing.T) {
		row := kongTarget(50, "e:80", 5)
		row["failover"] = true
		set(row)
		out, err := run(t, k, eh, dry)
		if err != nil || !strings.Contains(out, "; left out of targets: failover;") {
			t.Errorf("printed:\n%s%v", out, err)
		}
	})
}

func TestRun_manyTargets(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "web"), kongUpstream(2, "next")), newEventHooks(t)
	k.size = 100
	for n := range 503 {
		k.targets[id(1)] = append(k.targets[id(1)], kongTarget(1000+n, fmt.Sprintf("10.0.%d.%d:80", n/250, n%250), 100))
	}
	plan, err := run(t, k, eh, dry)
	if !errors.Is(err, kongimport.ErrIncomplete) {
		t.Errorf("error = %v; want ErrIncomplete", err)
	}
	out, err := run(t, k, eh)
	if !errors.Is(err, kongimport.ErrIncomplete) {
		t.Errorf("error = %v; want ErrIncomplete", err)
	}
	hasLines(t, out, "created    web: targets: 500 created, 3 refused",
		"refused    web, target 10.0.2.0:80, 10.0.2.1:80, 10.0.2.2:80: an upstream has at most 500 targets here", "created    next",
		"upstreams: 2 created; targets: 500 created, 3 refused")
	if done(plan) != out {
		t.Errorf("planned:\n%sdone:\n%s", plan, out)
	}
	if n := len(eh.addresses(t, "web")); n != 500 {
		t.Errorf("%d targets; want 500", n)
	}
	// So that the number here is the number there.
	eh.call(t, "POST", "/upstreams/web/targets", `{"target":"10.9.9.9:80"}`, 400)

	k.change(func() { k.targets[id(1)] = k.targets[id(1)][:500] })
	out, err = run(t, k, eh)
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "unchanged  web: targets: 500 unchanged", "unchanged  next", "upstreams: 2 unchanged; targets: 500 unchanged")
}

func TestRun_endless(t *testing.T) {
	eh := newEventHooks(t)
	row := `{"data":[{"id":"` + id(1) + `","name":"web"}],"next":"/upstreams?offset=%[1]s","offset":"%[1]s"}`
	n, large := 0, strings.Repeat(" ", 100_000)
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string
	}{
		{"a page that leads to itself", func(w http.ResponseWriter) { say(w, 200, fmt.Sprintf(row, "a")) }, "leads back"},
		{"two pages that lead to one another", func(w http.ResponseWriter) { n++; say(w, 200, fmt.Sprintf(row, fmt.Sprint(n%2))) }, "leads back"},
		{"always another page", func(w http.ResponseWriter) { n++; say(w, 200, fmt.Sprintf(row, fmt.Sprint("o", n))) }, "more than 2000 pages"},
		{"offsets of any length", func(w http.ResponseWriter) {
			n++
			say(w, 200, fmt.Sprintf(row, fmt.Sprint(n, strings.Repeat("x", 5000))))
		}, "an offset of more than 4096 bytes"},
		{"large pages", func(w http.ResponseWriter) {
			n++
			say(w, 200, fmt.Sprintf(`{"data":[],"offset":"%d"%s}`, n, large))
		}, "more than 1000000 bytes"},
		{"a body without end", func(w http.ResponseWriter) {
			for {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		}, "larger than 4 MB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n = 0
			k := newKong(t)
			k.answer(func(w http.ResponseWriter, _ *http.Request) bool { tt.answer(w); return true })
			out, err := run(t, k, eh, func(o *kongimport.Options) { o.MaxList = 1_000_000 })
			if err == nil || errors.Is(err, kongimport.ErrIncomplete) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v; want one with %q", err, tt.want)
			}
			if out != "" {
				t.Errorf("printed:\n%s", out)
			}
			if w := eh.written(); len(w) > 0 {
				t.Errorf("wrote %q", w)
			}
		})
	}
}

func TestRun_oldPages(t *testing.T) {
	k, eh := newKong(t), newEventHooks(t)
	k.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/targets"):
			say(w, 200, `{"data":{},"next":null}`)
		case r.URL.Query().Get("offset") == "":
			say(w, 200, `{"data":[{"id":"`+id(1)+`","name":"a"}],"offset":1}`)
		case r.URL.Query().Get("offset") == "1":
			say(w, 200, `{"data":[{"id":"`+id(2)+`","name":"b"}],"next":"http://kong:8001/upstreams?offset=Mg%3D%3D"}`)
		case r.URL.Query().Get("offset") == "Mg==": // with one that was on the page before
			say(w, 200, `{"data":[{"id":"`+id(2)+`","name":"b"},{"id":"`+id(3)+`","name":"c"}]}`)
		}
		return true
	})
	out, err := run(t, k, eh)
	if err != nil {
		t.Fatal(err)
	}
	hasLines(t, out, "created    a: targets: none", "created    b", "created    c", "upstreams: 3 created; targets: none")
}

func TestRun_kongDies(t *testing.T) {
	for name, die := range map[string]func(w http.ResponseWriter){
		"before its answer": func(w http.ResponseWriter) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		},
		"in the middle of its answer": func(w http.ResponseWriter) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"data\":[")
				_ = buf.Flush()
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b"), kongUpstream(3, "c")), newEventHooks(t)
			for n := 1; n <= 3; n++ {
				k.targets[id(n)] = []object{kongTarget(10+n, "10.0.0.1:80", 100)}
			}
			k.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, id(2)) {
					return false
				}
				die(w)
				return true
			})
			out, err := run(t, k, eh)
			if err == nil || errors.Is(err, kongimport.ErrIncomplete) || !strings.HasPrefix(err.Error(), "upstream b: Kong at http://127.0.0.1:") ||
				!strings.Contains(err.Error(), "; what comes after it was not looked at") || strings.Contains(err.Error(), "TLS") {
				t.Errorf("error = %v; want one that says where Kong ended", err)
			}
			hasLines(t, out, "created    a: targets: 1 created", "until it stopped: upstreams: 1 created; targets: 1 created")

			k.answer(nil)
			out, err = run(t, k, eh)
			if err != nil {
				t.Fatal(err)
			}
			hasLines(t, out, "unchanged  a", "created    b", "created    c", "upstreams: 2 created, 1 unchanged; targets: 2 created, 1 unchanged")
		})
	}
}

func TestRun_goneMeanwhile(t *testing.T) {
	k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b")), newEventHooks(t)
	k.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, id(1)) {
			say(w, 404, `{"message":"Not found"}`)
			return true
		}
		return false
	})
	out, err := run(t, k, eh)
	if !errors.Is(err, kongimport.ErrIncomplete) {
		t.Errorf("error = %v; want ErrIncomplete", err)
	}
	hasLines(t, out, "refused    a: Kong answered 404: Not found", "created    b", "upstreams: 1 created, 1 refused")
}

func TestRun_answersOfEventHooks(t *testing.T) {
	put := func(answer func(w http.ResponseWriter, r *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { return r.Method == http.MethodPut && answer(w, r) }
	}
	t.Run("refused by a newer word: the rest goes on", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b")), newEventHooks(t)
		k.targets[id(2)] = []object{kongTarget(10, "10.0.0.1:80", 100), kongTarget(11, "10.0.0.2:80", 100)}
		eh.answer(put(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, id(1)):
				say(w, 409, `{"code":5,"name":"unique constraint violation","message":"UNIQUE violation detected on '{name=\"a\"}'"}`)
			case strings.HasSuffix(r.URL.Path, id(10)):
				say(w, 400, `{"message":"schema violation (target: too far)"}`)
			default:
				return false
			}
			return true
		}))
		out, err := run(t, k, eh)
		if !errors.Is(err, kongimport.ErrIncomplete) {
			t.Errorf("error = %v; want ErrIncomplete", err)
		}
		hasLines(t, out, "refused    a: Event Hooks answered 409: UNIQUE violation", "created    b: targets: 1 created, 1 refused",
			"refused    b, target 10.0.0.1:80: Event Hooks answered 400: schema violation (target: too far)", "upstreams: 1 created, 1 refused")
	})
	t.Run("busy: asked again, as late as it says", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a")), newEventHooks(t)
		n := 0
		eh.answer(put(func(w http.ResponseWriter, _ *http.Request) bool {
			n++
			if n == 2 {
				w.Header().Set("Retry-After", "7")
			}
			if n <= 3 {
				say(w, 503, `{"message":"too many writers"}`)
			}
			return n <= 3
		}))
		var waits []time.Duration
		out, err := run(t, k, eh, func(o *kongimport.Options) {
			o.Wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		})
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "created    a", "upstreams: 1 created")
		if want := []time.Duration{time.Second, 7 * time.Second, 4 * time.Second}; !slices.Equal(waits, want) {
			t.Errorf("waited %v; want %v", waits, want)
		}
	})
	t.Run("busy for good, or wholly refused: stop", func(t *testing.T) {
		for status, want := range map[int]string{503: "run this again later", 403: "give a token of scope admin", 500: "look into its log"} {
			k, eh := newKong(t, kongUpstream(1, "a"), kongUpstream(2, "b")), newEventHooks(t)
			eh.answer(put(func(w http.ResponseWriter, _ *http.Request) bool { say(w, status, `{"message":"no"}`); return true }))
			out, err := run(t, k, eh, func(o *kongimport.Options) {
				o.Wait = func(context.Context, time.Duration) error { return nil }
			})
			if err == nil || errors.Is(err, kongimport.ErrIncomplete) || !strings.Contains(err.Error(), want) {
				t.Errorf("%d: error = %v; want one with %q", status, err, want)
			}
			if out != "" {
				t.Errorf("%d: printed:\n%s", status, out)
			}
		}
	})
	t.Run("a token that may only read is enough for a dry run", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a")), newEventHooks(t)
		eh.token = eh.call(t, "POST", "/tokens", `{"name":"reader","scopes":["read"]}`, 201)["token"].(string)
		out, err := run(t, k, eh, dry)
		if err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "create     a", "dry run")
		if _, err := run(t, k, eh); err == nil || !strings.Contains(err.Error(), "give a token of scope admin; read is enough for --dry-run") {
			t.Errorf("error = %v; want one that asks for scope admin", err)
		}
	})
	t.Run("a stop between two targets says what was done", func(t *testing.T) {
		k, eh := newKong(t, kongUpstream(1, "a")), newEventHooks(t)
		k.targets[id(1)] = []object{kongTarget(10, "10.0.0.1:80", 100), kongTarget(11, "10.0.0.2:80", 100)}
		eh.answer(put(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, id(11)) {
				return false
			}
			say(w, 500, `{"message":"An unexpected error occurred"}`)
			return true
		}))
		out, err := run(t, k, eh)
		if err == nil || !strings.HasPrefix(err.Error(), "targets of upstream a: Event Hooks answered 500") ||
			!strings.HasSuffix(err.Error(), "; what comes after it was not looked at") {
			t.Errorf("error = %v", err)
		}
		hasLines(t, out, "created    a: targets: 1 created", "until it stopped: upstreams: 1 created; targets: 1 created")
		eh.answer(nil)
		if out, err = run(t, k, eh); err != nil {
			t.Fatal(err)
		}
		hasLines(t, out, "updated    a: targets: 1 created, 1 unchanged", "upstreams: 1 updated")
	})
}

func TestRun_secrets(t *testing.T) {
	const kongToken, value, path = "token-of-kong-admin", "Bearer value-of-a-header", "healthchecks.active.headers"
	k, eh := newKong(t, kongUpstream(1, "web", path, `{"Authorization":["`+value+`"],"X-Plain":["seen"]}`), kongUpstream(2, "bad name", path, `{"X-Api-Key":["`+value+`"]}`)), newEventHooks(t)
	k.token = kongToken
	withToken := func(o *kongimport.Options) { o.KongToken = hook.NewSecret(kongToken) }
	var everything strings.Builder
	imported := func(opts ...func(*kongimport.Options)) string {
		out, err := run(t, k, eh, append(opts, withToken)...)
		if !errors.Is(err, kongimport.ErrIncomplete) {
			t.Errorf("error = %v; want ErrIncomplete", err)
		}
		fmt.Fprintln(&everything, out, err)
		return out
	}
	imported(dry)
	imported()
	if w := strings.Join(eh.written(), "\n"); !strings.Contains(w, value) {
		t.Errorf("written:\n%s\nwant the header's value in it", w)
	}
	if got := eh.at(t, id(1), path).(object); got["Authorization"].([]any)[0] != hook.Redacted || got["X-Plain"].([]any)[0] != "seen" {
		t.Errorf("headers = %v", got)
	}
	k.change(func() { edit(k.upstreams[0], path, `{"Authorization":["Bearer another"]}`) })
	out := imported()
	if got := eh.at(t, id(1), path).(object); len(got) != 1 {
		t.Errorf("headers = %v; want Kong's only", got)
	}
	if !strings.HasPrefix(out, "updated    web: targets: none; changed: healthchecks.active.headers, header Authorization, each time, because it cannot be read back to compare;") {
		t.Errorf("printed:\n%s", out)
	}
	if w := strings.Join(eh.written(), "\n"); !strings.Contains(w, "Bearer another") {
		t.Errorf("written:\n%s\nwant the new value of the header", w)
	}
	// Whoever answers knows the tokens, and may say them.
	k.answer(func(w http.ResponseWriter, r *http.Request) bool {
		say(w, 403, `{"message":"`+r.Header.Get("Kong-Admin-Token")+` may not"}`)
		return true
	})
	_, err := run(t, k, eh, withToken)
	fmt.Fprintln(&everything, err)
	k.answer(nil)
	eh.answer(func(w http.ResponseWriter, r *http.Request) bool {
		say(w, 401, `{"message":"`+r.Header.Get("Authorization")+` is wrong"}`)
		return true
	})
	_, err = run(t, k, eh, withToken)
	fmt.Fprintln(&everything, err)
	for _, secret := range []string{kongToken, eh.token, value, "Bearer another"} {
		if strings.Contains(everything.String(), secret) {
			t.Errorf("%q is in:\n%s", secret, &everything)
		}
	}
}

func TestRun_redirect(t *testing.T) {
	var followed bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		followed = true
		say(w, 200, `{"data":[],"next":null}`)
	}))
	defer elsewhere.Close()
	k, eh := newKong(t), newEventHooks(t)
	k.answer(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL+"/secret-path", http.StatusPermanentRedirect)
		return true
	})
	_, err := run(t, k, eh, func(o *kongimport.Options) { o.KongToken = hook.NewSecret("t0ken") })
	if err == nil || !strings.Contains(err.Error(), "it leads to "+elsewhere.URL+", where the token is not taken: name the right URL with --kong") ||
		strings.Contains(err.Error(), "secret-path") {
		t.Errorf("error = %v", err)
	}
	if followed {
		t.Error("the redirect was followed")
	}
}

func TestRun_strangers(t *testing.T) {
	const html = "<html><body>Kong Manager</body></html>"
	tests := []struct {
		name   string
		status int
		body   string
		token  string
		want   []string
	}{
		{"401 without a token", 401, `{"message":"Invalid RBAC credentials"}`, "", []string{"401: Invalid RBAC credentials; give a token with --kong-token or KONG_ADMIN_TOKEN"}},
		{"401 with a token", 401, `{"message":"Unauthorized","status":401}`, "t0ken", []string{"is not good there"}},
		{"403", 403, `{"message":"alex, you do not have permissions to read this resource"}`, "t0ken", []string{"alex", "a role that reads upstreams"}},
		{"the proxy's 404", 404, `{"message":"no Route matched with those values"}`, "", []string{"8001", "the proxy"}},
		{"a 404 of somebody else", 404, html, "", []string{"404 and HTML", "8001"}},
		{"a page for people", 200, html, "", []string{"it is HTML, not a page of a list", "Kong Manager"}},
		{"text", 200, "hello", "", []string{"not JSON", "8001"}},
		{"nothing", 200, "", "", []string{"it is empty", "8001"}},
		{"JSON that is no list", 200, `{"version":"3.10.0"}`, "", []string{"no list called data", "8001"}},
		{"JSON that is no object", 200, `[1]`, "", []string{"JSON of another kind, not a page"}},
		{"data that is null", 200, `{"data":null}`, "", []string{"no list called data"}},
		{"a next that is none", 200, `{"data":[],"next":"/upstreams"}`, "", []string{"next page"}},
		{"tags that are none", 400, `{"code":11,"name":"invalid options","message":"invalid option (tags: invalid filter syntax)"}`, "", []string{"tags: invalid filter syntax"}},
		{"a plain request to the TLS port", 400, html, "", []string{"400 and HTML", "8444"}},
		{"500", 500, `{"message":"An unexpected error occurred"}`, "", []string{"look into its log"}},
	}
	eh := newEventHooks(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKong(t)
			k.answer(func(w http.ResponseWriter, _ *http.Request) bool { say(w, tt.status, tt.body); return true })
			_, err := run(t, k, eh, func(o *kongimport.Options) { o.KongToken = hook.NewSecret(tt.token) })
			if err == nil || errors.Is(err, kongimport.ErrIncomplete) {
				t.Fatalf("error = %v; want one that ends the import", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v; want %q in it", err, want)
				}
			}
		})
	}
	t.Run("a row that is no object", func(t *testing.T) {
		k := newKong(t)
		k.answer(func(w http.ResponseWriter, _ *http.Request) bool { say(w, 200, `{"data":["x"]}`); return true })
		out, err := run(t, k, eh)
		if !errors.Is(err, kongimport.ErrIncomplete) || !strings.HasPrefix(out, "refused    one without a name: id: ") {
			t.Errorf("printed:\n%s%v", out, err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		k := newKong(t)
		k.Close()
		_, err := run(t, k, eh)
		if err == nil || !strings.Contains(err.Error(), "refuses the connection; start it, or name its Admin API with --kong") || strings.Contains(err.Error(), "/upstreams") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("nobody here", func(t *testing.T) {
		k := newKong(t)
		_, err := run(t, k, eh, func(o *kongimport.Options) { o.URL = "http://127.0.0.1:1" })
		if err == nil || !strings.Contains(err.Error(), "Event Hooks at http://127.0.0.1:1 refuses the connection; is `eventhooks local` running?") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		k, end := newKong(t), make(chan struct{})
		defer close(end)
		k.answer(func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-end:
			case <-r.Context().Done():
			}
			return true
		})
		_, err := run(t, k, eh, func(o *kongimport.Options) { o.Timeout = 20 * time.Millisecond })
		if err == nil || !strings.Contains(err.Error(), "gave no answer within 20ms") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("TLS where there is none", func(t *testing.T) {
		k := newKong(t)
		_, err := run(t, k, eh, func(o *kongimport.Options) { o.Kong = "https" + strings.TrimPrefix(o.Kong, "http") })
		if err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("TLS where the connection is closed upon it", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 1<<12)) // what is left unread would turn the end into a reset
				c.Close()
			}
		}()
		_, err = run(t, newKong(t), eh, func(o *kongimport.Options) { o.Kong = "https://" + l.Addr().String() })
		if err == nil || !strings.Contains(err.Error(), "; or it does not speak TLS there: try http: ") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("the URL is right once the upstreams were read", func(t *testing.T) {
		for _, status := range []int{200, 500} {
			k := newKong(t, kongUpstream(1, "web"))
			k.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/targets") {
					return false
				}
				say(w, status, `<html>`)
				return true
			})
			out, err := run(t, k, eh)
			if err == nil || !strings.Contains(out+err.Error(), fmt.Sprintf("Kong answered %d", status)) || strings.Contains(out+err.Error(), "Admin API") {
				t.Errorf("printed:\n%serror = %v; want no doubt of --kong", out, err)
			}
		}
	})
	t.Run("a certificate of nobody", func(t *testing.T) {
		s := httptest.NewTLSServer(http.NotFoundHandler())
		defer s.Close()
		_, err := run(t, newKong(t), eh, func(o *kongimport.Options) { o.Kong = s.URL })
		if err == nil || !strings.Contains(err.Error(), "SSL_CERT_FILE") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		k := newKong(t)
		ctx, cancel := context.WithCancel(t.Context())
		k.answer(func(_ http.ResponseWriter, r *http.Request) bool { cancel(); <-r.Context().Done(); return true })
		var out strings.Builder
		err := kongimport.Run(ctx, kongimport.Options{Kong: k.URL, URL: eh.URL, Token: hook.NewSecret(eh.token), Out: &out})
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "stopped: ") {
			t.Errorf("error = %v; want that it was stopped", err)
		}
	})
}

func TestRun_mistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*kongimport.Options)
		want string
	}{
		"no URL":                {func(o *kongimport.Options) { o.Kong = "127.0.0.1:8001" }, "--kong: not an http or https URL; "},
		"a scheme":              {func(o *kongimport.Options) { o.URL = "ftp://x" }, "--url: not an http or https URL; "},
		"a password in the URL": {func(o *kongimport.Options) { o.Kong = "http://kong:pa55word@x" }, "--kong: a URL with a user"},
		"a query":               {func(o *kongimport.Options) { o.Kong = "http://x/?token=pa55word" }, "--kong: leave out"},
		"a workspace":           {func(o *kongimport.Options) { o.Workspace = "a/b" }, "--workspace: a/b"},
		"a way up":              {func(o *kongimport.Options) { o.Workspace = ".." }, "--workspace: .."},
	} {
		t.Run(name, func(t *testing.T) {
			o := kongimport.Options{Kong: "http://127.0.0.1:1", URL: "http://127.0.0.1:1", Out: &strings.Builder{}}
			tt.set(&o)
			err := kongimport.Run(t.Context(), o)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "pa55word") {
				t.Errorf("error = %v; want %q", err, tt.want)
			}
		})
	}
}
