package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/local"
)

// told wants that the receiver hears of the target's health next, in Kong's
// words and no others.
func (r *receiver) told(t *testing.T, upstreamID, target, health string) request {
	t.Helper()
	req := r.next(t)
	got := object(t, req.body)
	ip, _, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	if is := net.JoinHostPort(fmt.Sprint(got["ip"]), fmt.Sprint(got["port"])); got["upstream_id"] != upstreamID || got["hostname"] != ip || is != target || got["health"] != health {
		t.Errorf("told of %s; want %s of %s %s", req.body, target, upstreamID, health)
	}
	want := []string{"event", "health", "hostname", "ip", "port", "source", "upstream_id"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("fields of the event (-want +got):\n%s", diff)
	}
	return req
}

// A server that is real dies and comes back, and an operator overrules what is
// known of it. Whoever asked for it is told of each once, and soon.
func TestProbe_aServerDiesAndComesBack(t *testing.T) {
	const (
		interval = time.Second
		failures = 2
		// The probe that finds the server dead begins up to an interval after its
		// death, the second one an interval later; a period more for the schedule.
		bound = failures*interval + interval
		// busy is what a machine with other work may add.
		busy = 10 * time.Second
	)
	t.Parallel() // it takes several intervals
	w := start(t, local.Options{ProbeEvery: interval})
	r := newReceiver(t)
	w.hook(`{"source":"balancer","event":"health","handler":"webhook","config":{"url":"` + r.URL + `"}}`)

	var server *http.Server
	serve := func(l net.Listener) {
		server = &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: patience}
		go func() { _ = server.Serve(l) }()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().String()
	serve(l)
	t.Cleanup(func() { _ = server.Close() })

	id := w.call("POST", "/upstreams", fmt.Sprintf(`{"name":"web","healthchecks":{"active":{"timeout":1,
		"healthy":{"interval":1,"successes":2,"http_statuses":[404]},"unhealthy":{"interval":1,"tcp_failures":%d,"http_statuses":[500]}}}}`, failures), http.StatusCreated)["id"].(string)
	targetID := w.call("POST", "/upstreams/web/targets", `{"target":"`+target+`"}`, http.StatusCreated)["id"].(string)
	row := func() map[string]any {
		return w.call("GET", "/upstreams/web/health", "", http.StatusOK)["data"].([]any)[0].(map[string]any)
	}
	probe := func() any { // when the last one was
		last, _ := row()["last_probe"].(map[string]any)
		return last["at"]
	}
	healthy := func(want string) {
		t.Helper()
		eventually(t, func() string {
			if got := row()["health"]; got != want {
				return fmt.Sprintf("health is %v; want %s", got, want)
			}
			return ""
		})
	}
	healthy("HEALTHY") // a first verdict that is good is no news

	died := time.Now()
	_ = server.Close()
	took := r.told(t, id, target, "unhealthy").at.Sub(died)
	t.Logf("told %v after the server died; by arithmetic within %v", took.Round(time.Millisecond), bound)
	if took > bound+busy {
		t.Errorf("told %v after the server died; want within %v", took, bound)
	}
	healthy("UNHEALTHY")

	eventually(t, func() string { // should somebody else hold its port just now
		l, err = net.Listen("tcp", target)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	serve(l)
	r.told(t, id, target, "healthy")

	w.call("PUT", "/upstreams/web/targets/"+targetID+"/unhealthy", "", http.StatusNoContent)
	if got := row()["health"]; got != "UNHEALTHY" {
		t.Errorf("health right after the order = %v; want UNHEALTHY", got)
	}
	r.told(t, id, target, "unhealthy")
	r.told(t, id, target, "healthy") // the probes have the last word, as in Kong

	for range 2 { // two more probes, of which there is nothing to tell
		last := probe()
		eventually(t, func() string {
			if probe() == last {
				return "no further probe"
			}
			return ""
		})
	}
	r.nothing(t)
}
