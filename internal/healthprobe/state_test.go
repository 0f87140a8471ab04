package healthprobe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// Results of probes by one letter: s(uccess), h(ttp), t(cp), o (time out),
// i(gnored), b(locked).
func resultOf(letter rune) hook.ProbeResult {
	switch letter {
	case 's':
		return hook.ProbeResult{Code: 200}
	case 'h':
		return hook.ProbeResult{Code: 503}
	case 'g':
		return hook.ProbeResult{Fault: hook.FaultHTTP}
	case 't':
		return hook.ProbeResult{Fault: hook.FaultTCP}
	case 'o':
		return hook.ProbeResult{Fault: hook.FaultTimeout}
	case 'i':
		return hook.ProbeResult{Code: 418}
	case 'b':
		return hook.ProbeResult{Fault: hook.FaultBlocked}
	}
	panic("no such result: " + string(letter))
}

func rules(successes, http, tcp, timeouts int64) hook.ActiveCheck {
	return hook.ActiveCheck{
		Type: "http", HealthyStatuses: []int64{200, 302}, UnhealthyStatuses: []int64{429, 404, 500, 501, 502, 503, 504, 505},
		Successes: successes, HTTPFailures: http, TCPFailures: tcp, Timeouts: timeouts,
	}
}

// short writes a state as "healthy s0 h0 t0 o0".
func short(s hook.ProbeState) string {
	name := string(s.Health)
	if name == "" {
		name = "new"
	}
	return fmt.Sprintf("%s s%d h%d t%d o%d", name, s.Success, s.HTTP, s.TCP, s.Timeout)
}

func TestStep_followsASequence(t *testing.T) {
	twos := rules(2, 2, 2, 2)
	tests := []struct {
		name  string
		rules hook.ActiveCheck
		from  hook.Health
		seq   string
		want  string // the state after it
		told  string // what was told, in order
	}{
		{"a new target that is up is not spoken of", twos, "", "s", "healthy s0 h0 t0 o0", ""},
		{"a new target that stays up neither", twos, "", "ssss", "healthy s0 h0 t0 o0", ""},
		{"a new target that is down is told at its threshold", twos, "", "hh", "unhealthy s0 h2 t0 o0", "unhealthy"},
		{"one failure of a new target is no verdict", twos, "", "h", "new s0 h1 t0 o0", ""},
		{"a new target that wavers and comes up is not spoken of", twos, "", "hs", "healthy s0 h0 t0 o0", ""},
		{"a new target that comes up after it was down is told", twos, "", "hhss", "healthy s2 h0 t0 o0", "unhealthy healthy"},
		{"the first success counts without a threshold", rules(0, 1, 1, 1), "", "s", "healthy s0 h0 t0 o0", ""},
		{"failures reach their threshold", twos, hook.Healthy, "hh", "unhealthy s0 h2 t0 o0", "unhealthy"},
		{"one failure is a waver", twos, hook.Healthy, "h", "mostly_healthy s0 h1 t0 o0", ""},
		{"a blip is not spoken of", twos, hook.Healthy, "hss", "healthy s2 h0 t0 o0", ""},
		{"blip after blip neither", twos, hook.Healthy, "hshshshs", "mostly_healthy s1 h0 t0 o0", ""},
		{"each kind is counted by itself", rules(2, 3, 3, 3), hook.Healthy, "htohto", "mostly_healthy s0 h2 t2 o2", ""},
		{"the first kind to reach its threshold decides", rules(2, 3, 2, 3), hook.Healthy, "htot", "unhealthy s0 h1 t2 o1", "unhealthy"},
		{"a failure takes the successes back", twos, hook.Unhealthy, "shs", "mostly_unhealthy s1 h0 t0 o0", ""},
		{"successes reach their threshold", twos, hook.Unhealthy, "ss", "healthy s2 h0 t0 o0", "healthy"},
		{"one success of a target that is down is a waver", twos, hook.Unhealthy, "s", "mostly_unhealthy s1 h0 t0 o0", ""},
		{"a waver of a target that is down is not spoken of", twos, hook.Unhealthy, "shh", "unhealthy s0 h2 t0 o0", ""},
		{"down, up and down again is told three times", twos, hook.Healthy, "hhsstt", "unhealthy s0 h0 t2 o0", "unhealthy healthy unhealthy"},
		{"more failures of a target that is down change nothing", twos, hook.Unhealthy, "hhttoo", "unhealthy s0 h0 t0 o0", ""},
		{"a threshold of one needs no second probe", rules(1, 1, 1, 1), hook.Healthy, "tsos", "healthy s1 h0 t0 o0", "unhealthy healthy unhealthy healthy"},
		{"failures without a threshold change nothing", rules(2, 0, 0, 0), hook.Healthy, "hhhtttooo", "healthy s0 h0 t0 o0", ""},
		{"successes without a threshold change nothing", rules(0, 2, 2, 2), hook.Unhealthy, "ssss", "unhealthy s0 h0 t0 o0", ""},
		{"only one kind has a threshold", rules(2, 0, 2, 0), hook.Healthy, "hohot", "mostly_healthy s0 h0 t1 o0", ""},
		{"a status in no list changes nothing", twos, hook.Healthy, "hih", "unhealthy s0 h2 t0 o0", "unhealthy"},
		{"a refused address changes nothing", twos, hook.Healthy, "tbt", "unhealthy s0 h0 t2 o0", "unhealthy"},
		{"only refused: there is never a verdict", twos, "", "bbbbii", "new s0 h0 t0 o0", ""},
		{"an answer that is not HTTP is an http failure", twos, hook.Healthy, "gg", "unhealthy s0 h2 t0 o0", "unhealthy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := hook.ProbeState{Health: tt.from}
			var told []string
			for _, letter := range tt.seq {
				var tell hook.Health
				if s, tell = healthprobe.Step(s, resultOf(letter), tt.rules, 1); tell != "" {
					told = append(told, string(tell))
				}
			}
			if got := short(s); got != tt.want {
				t.Errorf("after %s: %s; want %s", tt.seq, got, tt.want)
			}
			if got := strings.Join(told, " "); got != tt.told {
				t.Errorf("after %s told %q; want %q", tt.seq, got, tt.told)
			}
		})
	}
}

// TestStep_everyTransition lists what happens in each state with each outcome,
// below the threshold and at it.
func TestStep_everyTransition(t *testing.T) {
	type row struct {
		from hook.Health
		had  int64 // in the counter that the outcome raises; the other side's counters are 1
		in   rune
		want string
		tell hook.Health
	}
	var table []row
	for kind, f := range map[rune]string{'h': "h%d t1 o1", 't': "h1 t%d o1", 'o': "h1 t1 o%d"} {
		at := func(n int) string { return fmt.Sprintf(f, n) }
		table = append(table,
			row{"", 0, kind, "new s0 " + at(1), ""},
			row{"", 2, kind, "unhealthy s0 " + at(3), hook.Unhealthy},
			row{hook.Healthy, 0, kind, "mostly_healthy s0 " + at(1), ""},
			row{hook.Healthy, 2, kind, "unhealthy s0 " + at(3), hook.Unhealthy},
			row{hook.MostlyHealthy, 0, kind, "mostly_healthy s0 " + at(1), ""},
			row{hook.MostlyHealthy, 2, kind, "unhealthy s0 " + at(3), hook.Unhealthy},
			row{hook.MostlyUnhealthy, 0, kind, "mostly_unhealthy s0 " + at(1), ""},
			row{hook.MostlyUnhealthy, 2, kind, "unhealthy s0 " + at(3), ""},
			row{hook.Unhealthy, 0, kind, "unhealthy s1 " + at(0), ""},
			row{hook.Unhealthy, 2, kind, "unhealthy s1 " + at(2), ""},
		)
	}
	table = append(table,
		row{"", 0, 's', "healthy s0 h0 t0 o0", ""},
		row{"", 2, 's', "healthy s0 h0 t0 o0", ""},
		row{hook.Healthy, 0, 's', "healthy s0 h1 t1 o1", ""},
		row{hook.Healthy, 2, 's', "healthy s2 h1 t1 o1", ""},
		row{hook.MostlyHealthy, 0, 's', "mostly_healthy s1 h0 t0 o0", ""},
		row{hook.MostlyHealthy, 2, 's', "healthy s3 h0 t0 o0", ""},
		row{hook.MostlyUnhealthy, 0, 's', "mostly_unhealthy s1 h0 t0 o0", ""},
		row{hook.MostlyUnhealthy, 2, 's', "healthy s3 h0 t0 o0", hook.Healthy},
		row{hook.Unhealthy, 0, 's', "mostly_unhealthy s1 h0 t0 o0", ""},
		row{hook.Unhealthy, 2, 's', "healthy s3 h0 t0 o0", hook.Healthy},
	)
	for _, r := range table {
		s := hook.ProbeState{Address: "t1/10.0.0.1", Health: r.from, SinceMS: 5, Success: 1, HTTP: 1, TCP: 1, Timeout: 1}
		switch r.in {
		case 's':
			s.Success = r.had
		case 'h':
			s.HTTP = r.had
		case 't':
			s.TCP = r.had
		case 'o':
			s.Timeout = r.had
		}
		got, tell := healthprobe.Step(s, resultOf(r.in), rules(3, 3, 3, 3), 7)
		if short(got) != r.want || tell != r.tell {
			t.Errorf("%s, then %c = %s, tell %q; want %s, tell %q", short(s), r.in, short(got), tell, r.want, r.tell)
		}
		// Wavering does not change since when a target is up, or down.
		if since := got.SinceMS; (since == 7) != (tell != "" || r.from == "" && got.Health != "") || got.Address != s.Address {
			t.Errorf("%s, then %c: since %d, address %q", short(s), r.in, since, got.Address)
		}
		for _, letter := range "ib" {
			if got, tell := healthprobe.Step(s, resultOf(letter), rules(3, 3, 3, 3), 7); got != s || tell != "" {
				t.Errorf("%s, then %c = %s, tell %q; want no change", short(s), letter, short(got), tell)
			}
		}
	}
}

func TestJudge_everyStatus(t *testing.T) {
	c := rules(1, 1, 1, 1)
	c.UnhealthyStatuses = append(c.UnhealthyStatuses, 302) // in both: the healthy list wins
	for code := 100; code < 1000; code++ {
		want := record.ResultIgnored
		switch {
		case code == 200 || code == 302:
			want = record.ResultSuccess
		case slices.Contains(c.UnhealthyStatuses, int64(code)):
			want = record.ResultFailure
		}
		if got, reason := healthprobe.Judge(hook.ProbeResult{Code: code}, c); got != want || !strings.HasPrefix(reason, fmt.Sprintf("status %d", code)) {
			t.Errorf("Judge(%d) = %s, %q; want %s", code, got, reason, want)
		}
	}
	c.Type = "tcp"
	if got, reason := healthprobe.Judge(hook.ProbeResult{}, c); got != record.ResultSuccess || reason != "connected" {
		t.Errorf("Judge of a connection = %s, %q; want success, connected", got, reason)
	}
	if got, reason := healthprobe.Judge(hook.ProbeResult{Fault: hook.FaultTCP, Reason: "connection refused"}, c); got != record.ResultFailure || reason != "connection refused" {
		t.Errorf("Judge of a refusal = %s, %q", got, reason)
	}
	if got, reason := healthprobe.Judge(hook.ProbeResult{Fault: hook.FaultNoRoute, Reason: "no route"}, c); got != record.ResultIgnored || reason != "no route" {
		t.Errorf("Judge of no route = %s, %q", got, reason)
	}
	for _, kind := range []string{"grpc", "grpcs"} {
		c.Type = kind
		for serving := range 5 {
			want := record.ResultFailure
			if serving == 1 {
				want = record.ResultSuccess
			}
			got, reason := healthprobe.Judge(hook.ProbeResult{Code: 200, Serving: serving}, c)
			if got != want || !strings.Contains(reason, "SERVING") {
				t.Errorf("Judge of %s, serving %d = %s, %q; want %s", kind, serving, got, reason, want)
			}
			if _, reason := healthprobe.Judge(hook.ProbeResult{Serving: serving, Reason: "in words"}, c); reason != "gRPC health: in words" {
				t.Errorf("reason %q; want the prober's", reason)
			}
		}
		if got, reason := healthprobe.Judge(hook.ProbeResult{Fault: hook.FaultHTTP, Reason: "grpc-status 12"}, c); got != record.ResultFailure || reason != "grpc-status 12" {
			t.Errorf("Judge of %s's fault = %s, %q", kind, got, reason)
		}
	}
	if _, reason := healthprobe.Judge(hook.ProbeResult{Fault: hook.FaultTCP, Reason: strings.Repeat("ä", 1000)}, c); len(reason) > 300 || !utf8.ValidString(reason) {
		t.Errorf("a reason of %d bytes", len(reason))
	}
	if got, _ := healthprobe.Judge(hook.ProbeResult{Fault: "of a later version"}, c); got != record.ResultIgnored {
		t.Errorf("Judge of an unknown fault = %s; want ignored", got)
	}
}

// TestStep_holdsForEverySequence compares the machine with what it promises,
// said another way: a verdict is down when, since the last success, as many
// failures of one kind were counted as its threshold says, and up when as many
// successes came in a row.
func TestStep_holdsForEverySequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name string) int64 { return rapid.Int64Range(0, 4).Draw(t, name) }
		c := rules(limit("successes"), limit("http"), limit("tcp"), limit("timeouts"))
		limits := map[rune]int64{'h': c.HTTPFailures, 't': c.TCPFailures, 'o': c.Timeouts}
		seq := rapid.SliceOfN(rapid.SampledFrom([]rune("shtoib")), 0, 60).Draw(t, "sequence")

		var s hook.ProbeState
		var told []hook.Health
		down, seen := false, false // what should be known
		run := int64(0)            // successes in a row, of those that count
		failures := map[rune]int64{}
		for _, letter := range seq {
			before := s
			var tell hook.Health
			s, tell = healthprobe.Step(s, resultOf(letter), c, 1)
			if tell != "" {
				told = append(told, tell)
			}

			was := down
			switch letter {
			case 's':
				if c.Successes > 0 || !seen {
					clear(failures)
				}
				seen = true
				if run++; down && c.Successes > 0 && run >= c.Successes {
					down = false
				}
			case 'h', 't', 'o':
				if limits[letter] == 0 {
					break
				}
				run = 0
				if down {
					if before.Health != hook.Unhealthy {
						failures[letter]++
					}
					break
				}
				if failures[letter]++; failures[letter] >= limits[letter] {
					down, seen = true, true
				}
			}
			if isDown := s.Health == hook.Unhealthy || s.Health == hook.MostlyUnhealthy; isDown != down {
				t.Fatalf("after %c of %s: %s; want down: %t", letter, string(seq), short(s), down)
			}
			if (tell != "") != (was != down) {
				t.Fatalf("after %c of %s told %q although down went from %t to %t", letter, string(seq), tell, was, down)
			}
			if s.Success > c.Successes || s.HTTP > c.HTTPFailures || s.TCP > c.TCPFailures || s.Timeout > c.Timeouts {
				t.Fatalf("a counter is above its threshold: %s of %+v", short(s), c)
			}
		}
		for i, h := range told {
			want := hook.Unhealthy
			if i%2 == 1 {
				want = hook.Healthy
			}
			if h != want {
				t.Fatalf("told %v; what is told must alternate and begin with unhealthy", told)
			}
		}
	})
}
