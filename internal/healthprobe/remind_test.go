package healthprobe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

func remind(seconds int64) func(*hook.Upstream) {
	return func(u *hook.Upstream) { u.RemindEvery, u.Active.TCPFailures, u.Active.Successes = seconds, 1, 1 }
}

// reminders returns the events on the queue as "unhealthy", or "unhealthy 2
// since 18:01" for a reminder, each id once.
func (w *world) reminders() []string {
	w.t.Helper()
	var all []string
	seen := map[string]bool{}
	for _, ev := range w.queue.events(w.t) {
		if seen[ev.ID] {
			continue
		}
		seen[ev.ID] = true
		var d struct {
			Health   string
			Reminder int
			Since    time.Time
		}
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			w.t.Fatal(err)
		}
		if d.Reminder > 0 {
			d.Health += fmt.Sprintf(" %d since %s", d.Reminder, d.Since.Format("15:04"))
		}
		all = append(all, d.Health)
	}
	return all
}

func TestService_Run_reminds(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, remind(600)), target(upstreamA, "t1", "web1.example.test:80"))
	w.dns.set("web1.example.test", "10.0.0.1")
	w.run()
	w.net.set("10.0.0.1:80", refused)
	var at []string // when there was something new
	minutes := func(n int) {
		for range n {
			before := len(w.queue.events(t))
			w.minute() // another process each time
			for range len(w.queue.events(t)) - before {
				at = append(at, w.clock().Format("15:04"))
			}
		}
	}
	minutes(25)
	if diff := cmp.Diff([]string{"18:01", "18:11", "18:21"}, at); diff != "" {
		t.Errorf("told at (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"unhealthy", "unhealthy 1 since 18:01", "unhealthy 2 since 18:01"}, w.reminders()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	ev := w.queue.events(t)[1]
	want := `{"upstream_id":"` + upstreamA + `","ip":"10.0.0.1","port":80,"hostname":"web1.example.test","health":"unhealthy","reminder":1,"since":"2026-11-21T18:01:00Z"}`
	if string(ev.Data) != want || ev.Source != "balancer" || ev.Event != "health" {
		t.Errorf("reminder %s/%s %s; want %s", ev.Source, ev.Event, ev.Data, want)
	}
	if n := strings.Count(w.log.String(), `"target still down"`); n != 2 {
		t.Errorf("%d lines of two reminders: %s", n, w.log.String())
	}

	// Back up: none. Down again: counted anew.
	w.net.set("10.0.0.1:80", ok)
	minutes(30)
	w.net.set("10.0.0.1:80", refused)
	minutes(11)
	want2 := []string{"unhealthy", "unhealthy 1 since 18:01", "unhealthy 2 since 18:01", "healthy", "unhealthy", "unhealthy 1 since 18:56"}
	if diff := cmp.Diff(want2, w.reminders()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestService_Run_remindsOnlyOfWhatIsDown(t *testing.T) {
	down := func(t *testing.T, change ...func(*hook.Upstream)) *world {
		w := newWorld(t)
		w.put(upstream(upstreamA, append([]func(*hook.Upstream){remind(60)}, change...)...), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		w.run()
		w.wantTold("10.0.0.1:80 unhealthy")
		return w
	}
	minutes := func(w *world, n int, change ...func(*healthprobe.Options)) int {
		before := len(w.told())
		for range n {
			w.minute(change...)
		}
		return len(w.told()) - before
	}
	t.Run("not when it is off", func(t *testing.T) {
		if n := minutes(down(t, remind(0)), 100); n != 0 {
			t.Errorf("%d events; want none", n)
		}
	})
	t.Run("not faster than asked when runs are not exact", func(t *testing.T) {
		w := down(t, remind(60))
		var last time.Time
		for i := range 40 {
			w.pass([]time.Duration{58 * time.Second, 61 * time.Second, 70 * time.Second}[i%3])
			before := len(w.told())
			w.run()
			if len(w.told()) > before {
				if gap := w.clock().Sub(last); gap < time.Minute {
					t.Errorf("a reminder after %s", gap)
				}
				last = w.clock()
			}
		}
	})
	t.Run("of what is down although it is not probed more often", func(t *testing.T) {
		w := down(t, func(u *hook.Upstream) { u.Active.UnhealthyInterval = 3600 })
		if n := minutes(w, 10); n != 10 {
			t.Errorf("%d reminders in 10 minutes; want 10", n)
		}
		if n := w.net.count(); n != 1 {
			t.Errorf("%d probes; want 1", n)
		}
	})
	t.Run("with since when it went down, however it wavered", func(t *testing.T) {
		w := down(t, func(u *hook.Upstream) { u.Active.Successes, u.RemindEvery = 2, 240 })
		for i := range 4 {
			w.net.set("10.0.0.1:80", []hook.ProbeResult{ok, refused}[i%2])
			w.minute()
		}
		if diff := cmp.Diff([]string{"unhealthy", "unhealthy 1 since 18:00"}, w.reminders()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
	t.Run("not of what is switched off", func(t *testing.T) {
		w := down(t)
		w.put(upstream(upstreamA, remind(60), off))
		if n := minutes(w, 5); n != 0 {
			t.Errorf("%d reminders of an upstream that is not probed", n)
		}
		w.put(upstream(upstreamA, remind(60)))
		one := target(upstreamA, "t1", "10.0.0.1:80")
		one.Weight = 0
		w.put(one)
		if n := minutes(w, 5); n != 0 {
			t.Errorf("%d reminders of a target of weight 0", n)
		}
	})
	t.Run("not while nothing can be judged", func(t *testing.T) {
		w := down(t)
		w.put(target(upstreamA, "t2", "10.0.0.2:80"))
		w.run()
		w.net.everything = true
		if n := minutes(w, 5, func(o *healthprobe.Options) {
			o.SelfCheck = func(ctx context.Context) error { return errors.New("no route") }
		}); n != 0 {
			t.Errorf("%d reminders; want none", n)
		}
	})
	t.Run("after what was raised before", func(t *testing.T) {
		w := down(t)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		for range 3 {
			w.pass(time.Minute)
			_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		}
		w.queue.refuse = nil
		w.minute()
		if diff := cmp.Diff([]string{"unhealthy", "unhealthy 1 since 18:00", "unhealthy 2 since 18:00"}, w.reminders()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
