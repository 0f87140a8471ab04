package healthprobe_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/egress"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// TestService_Run_probesRealServers watches servers on loopback through the
// real client.
func TestService_Run_probesRealServers(t *testing.T) {
	status := atomic.Int64{}
	status.Store(200)
	var asked sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Store(r.Host+r.URL.Path, r.Header.Get("X-Probe"))
		rw.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	teapot := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }))
	defer teapot.Close()
	down := listen(t)
	_ = down.Close()
	hanging := listen(t)
	defer func() { _ = hanging.Close() }()
	go func() {
		for {
			c, err := hanging.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
		}
	}()

	w := newWorld(t)
	client, err := egress.New(egress.Options{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdle()
	w.dns.set("web1.example.test", "127.0.0.1")
	at := func(a net.Addr) string { return fmt.Sprintf("web1.example.test:%d", a.(*net.TCPAddr).Port) }
	w.put(upstream(upstreamA, func(u *hook.Upstream) {
		u.Active.Timeout, u.Active.HTTPPath, u.Active.Headers = 0.3, "/live?x=1", map[string][]string{"X-Probe": {"yes"}}
	}),
		target(upstreamA, "1-up", at(server.Listener.Addr())), target(upstreamA, "2-down", at(down.Addr())),
		target(upstreamA, "3-hanging", at(hanging.Addr())), target(upstreamA, "4-teapot", at(teapot.Listener.Addr())),
		target(upstreamA, "5-metadata", "169.254.169.254:80"))
	w.put(upstream(upstreamB, func(u *hook.Upstream) { u.Active.Type, u.Active.Timeout = "tcp", 0.3 }),
		target(upstreamB, "6-up", at(hanging.Addr())), target(upstreamB, "7-down", at(down.Addr())))

	run := func() {
		t.Helper()
		w.minute(func(o *healthprobe.Options) { o.Prober = client })
	}
	run()
	w.wantTold()
	run()
	var told []string
	for _, ev := range w.queue.events(t) {
		var d struct{ Port int }
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			t.Fatal(err)
		}
		told = append(told, fmt.Sprint(d.Port))
	}
	port := func(a net.Addr) string { return fmt.Sprint(a.(*net.TCPAddr).Port) }
	want := []string{port(down.Addr()), port(down.Addr()), port(hanging.Addr())}
	slices.Sort(told)
	slices.Sort(want)
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("ports told (-want +got):\n%s", diff)
	}
	if got, _ := asked.Load("web1.example.test/live"); got != "yes" {
		t.Errorf("the server was not asked as configured: header %v", got)
	}

	var lines []string
	for _, id := range []string{upstreamA, upstreamB} {
		for _, s := range w.summary(id).Targets {
			lines = append(lines, fmt.Sprintf("%s %s %s: %s", s.TargetID, s.Health, s.Result, s.Reason))
			if connected := !strings.Contains(s.TargetID, "down") && !strings.Contains(s.TargetID, "metadata"); (s.ConnectMS > 0) != connected {
				t.Errorf("%s: connected in %v ms", s.TargetID, s.ConnectMS)
			}
		}
	}
	if diff := cmp.Diff([]string{
		"1-up healthy success: status 200",
		"2-down unhealthy failure: connection refused",
		"3-hanging unhealthy failure: no answer within 0.3 s",
		"4-teapot  ignored: status 418 is neither in healthy.http_statuses nor in unhealthy.http_statuses",
		"5-metadata  blocked: blocked by the egress rules: link-local or metadata address",
		"6-up healthy success: connected",
		"7-down unhealthy failure: connection refused",
	}, lines); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}

	status.Store(503)
	run()
	run()
	status.Store(302)
	run()
	run()
	if got := w.told(); len(got) != 5 || !strings.HasSuffix(got[3], port(server.Listener.Addr())+" unhealthy") || !strings.HasSuffix(got[4], port(server.Listener.Addr())+" healthy") {
		t.Errorf("told %q; want the server down and up again at the end", got)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// BenchmarkRun measures a run over 1,000 targets, the size planned for one
// function and minute, without the probes themselves. ns/target is what a
// target costs beside its probe.
func BenchmarkRun(b *testing.B) {
	b.Run("steady", func(b *testing.B) { benchmarkRun(b, false) })
	b.Run("all-change", func(b *testing.B) { benchmarkRun(b, true) })
}

func benchmarkRun(b *testing.B, flap bool) {
	w := newWorld(b)
	for u := range 4 {
		id := fmt.Sprintf("u%d", u)
		all := []any{upstream(id, func(u *hook.Upstream) { u.Active.TCPFailures, u.Active.Successes = 1, 1 })}
		for i := range 250 {
			all = append(all, target(id, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.%d.0.%d:80", u, i)))
		}
		w.put(all...)
	}
	s := w.service()
	if err := s.Run(b.Context(), hook.UpstreamRange{}); err != nil {
		b.Fatal(err)
	}
	down := false
	for b.Loop() {
		w.pass(time.Minute)
		if flap {
			down = !down
			w.net.mu.Lock()
			w.net.everything = down
			w.net.mu.Unlock()
		}
		if err := s.Run(b.Context(), hook.UpstreamRange{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/target")
}
