package healthprobe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// shows makes an address answer with a certificate that ends at a moment.
func (w *world) shows(address string, end time.Time, r hook.ProbeResult) {
	r.CertificateMS = end.UnixMilli()
	w.net.set(address, r)
}

// certificates returns the events of certificates as "10.0.0.1:443 2026-11-30 8".
func (w *world) certificates() []string {
	w.t.Helper()
	var all []string
	seen := map[string]bool{}
	for _, ev := range w.queue.events(w.t) {
		if ev.Event != "certificate-expiring" || seen[ev.ID] {
			continue
		}
		seen[ev.ID] = true
		var d struct {
			IP       string
			Port     int
			NotAfter time.Time `json:"not_after"`
			DaysLeft int       `json:"days_left"`
		}
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s:%d %s %d", d.IP, d.Port, d.NotAfter.Format(time.DateOnly), d.DaysLeft))
	}
	return all
}

func days(n int64) func(*hook.Upstream) {
	return func(u *hook.Upstream) { u.Active.Type, u.Active.CertificateDays = "https", n }
}

func TestService_Run_tellsOfCertificates(t *testing.T) {
	want := func(t *testing.T, w *world, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, w.certificates()); diff != "" {
			t.Errorf("certificates told (-want +got):\n%s", diff)
		}
	}
	t.Run("once for each, at its threshold", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(14)), target(upstreamA, "t1", "web1.example.test:443"))
		w.dns.set("web1.example.test", "10.0.0.1")
		first := w.clock().Add(14*24*time.Hour + 90*time.Second)
		w.shows("10.0.0.1:443", first, ok)
		w.run()
		w.minute()
		want(t, w)
		w.minute() // less than 14 days are left
		want(t, w, "10.0.0.1:443 2026-12-05 13")
		ev := w.queue.events(t)[0]
		data := `{"upstream_id":"` + upstreamA + `","ip":"10.0.0.1","port":443,"hostname":"web1.example.test","not_after":"2026-12-05T18:01:30Z","days_left":13}`
		if string(ev.Data) != data || ev.Source != "balancer" || ev.Event != "certificate-expiring" {
			t.Errorf("event %s/%s %s; want %s", ev.Source, ev.Event, ev.Data, data)
		}
		if n := strings.Count(w.log.String(), `"target certificate expiring"`); n != 1 {
			t.Errorf("log: %s", w.log.String())
		}
		for range 30 {
			w.minute()
		}
		w.shows("10.0.0.1:443", first.Add(90*24*time.Hour), ok) // renewed
		w.minute()
		want(t, w, "10.0.0.1:443 2026-12-05 13")
		for range 100 {
			w.pass(24 * time.Hour)
			w.run()
		}
		want(t, w, "10.0.0.1:443 2026-12-05 13", "10.0.0.1:443 2027-03-05 13")
		w.wantHealth("")
	})
	t.Run("of each address, also of one that is refused for it", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(14)), target(upstreamA, "t1", "web.example.test:443"))
		w.dns.set("web.example.test", "10.0.0.1", "10.0.0.2")
		w.shows("10.0.0.1:443", w.clock().Add(-time.Hour), hook.ProbeResult{Fault: hook.FaultTCP, Reason: "certificate has expired"})
		w.shows("10.0.0.2:443", w.clock().Add(time.Hour), hook.ProbeResult{Code: 418}) // no verdict
		for range 5 {
			w.minute()
		}
		want(t, w, "10.0.0.1:443 2026-11-21 -1", "10.0.0.2:443 2026-11-21 0")
		w.wantHealth("10.0.0.1:443 unhealthy")
	})
	t.Run("not with a threshold of 0", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(0)), target(upstreamA, "t1", "10.0.0.1:443"))
		w.shows("10.0.0.1:443", w.clock().Add(-time.Hour), ok)
		w.run()
		w.minute()
		want(t, w)
	})
	t.Run("after the health, which comes first", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(14), func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:443"))
		w.shows("10.0.0.1:443", w.clock().Add(-time.Hour), hook.ProbeResult{Fault: hook.FaultTCP, Reason: "certificate has expired"})
		w.run()
		want(t, w)
		w.wantHealth("10.0.0.1:443 unhealthy")
		w.minute()
		w.minute()
		want(t, w, "10.0.0.1:443 2026-11-21 -1")
	})
	t.Run("once although two are shown in turn", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(14)), target(upstreamA, "t1", "10.0.0.1:443"))
		begin := w.clock()
		for i := range 20 {
			w.shows("10.0.0.1:443", begin.Add(time.Duration(24*(1+i%2))*time.Hour), ok)
			w.minute()
		}
		want(t, w, "10.0.0.1:443 2026-11-22 0", "10.0.0.1:443 2026-11-23 1")
	})
	t.Run("also while the others are silent: somebody answered", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, days(14), func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:443"), target(upstreamA, "t2", "10.0.0.2:443"))
		w.net.set("10.0.0.2:443", refused)
		w.shows("10.0.0.1:443", w.clock().Add(-time.Hour), hook.ProbeResult{Fault: hook.FaultTCP, Reason: "certificate has expired"})
		w.run(func(o *healthprobe.Options) {
			o.SelfCheck = func(context.Context) error { t.Error("the road from here was doubted"); return nil }
		})
		w.wantHealth("10.0.0.1:443 unhealthy", "10.0.0.2:443 unhealthy")
	})
}

func TestDaysLeft_roundsDown(t *testing.T) {
	for ms, want := range map[time.Duration]int64{
		0: 0, time.Millisecond: 0, 24*time.Hour - 1: 0, 24 * time.Hour: 1, 47 * time.Hour: 1,
		-time.Millisecond: -1, -24 * time.Hour: -1, -24*time.Hour - time.Millisecond: -2,
	} {
		if got := healthprobe.DaysLeft(1e12+ms.Milliseconds(), 1e12); got != want {
			t.Errorf("%s before the end %d days are left; want %d", ms, got, want)
		}
	}
}
