package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.etcd.io/bbolt"

	"eventhooks/internal/action"
	"eventhooks/internal/awstest"
	"eventhooks/internal/boltqueue"
	"eventhooks/internal/boltstore"
	"eventhooks/internal/deliver"
	"eventhooks/internal/egress"
	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

// The figures are of events of 1,000 bytes, posted in batches of 25, each
// delivered to one signed webhook. `make figures` prints them all.
const (
	figureBatch   = 25
	figureEvents  = 10_000 // on the local system
	figureOnAWS   = 1_000  // on AWS-compatible servers, which are slow
	figureFailing = 200    // of which each takes several requests
	figureClients = 16
)

// BenchmarkFigures_cpu is the CPU time of the local system for one delivery: its
// HTTP front, ingest, deliver, store and queue, with a wait for the disk. Beside
// it, in the same run, that of a bare client for one POST of the same body.
// Receiver and clients are processes of their own.
func BenchmarkFigures_cpu(b *testing.B) {
	for b.Loop() {
		r := receive(b, nil)
		p := localProcess(b, nil)
		signedHook(p.world, r.url)
		p.traffic(r, 1000) // connections, the first load, pages of the file
		before := cpuOf(b, p.cmd.Process.Pid)
		p.traffic(r, figureEvents)
		ours := (cpuOf(b, p.cmd.Process.Pid) - before) / figureEvents
		bare := r.bare(nil, figureEvents)
		floor := bare.CPU / figureEvents
		b.Logf("CPU of one delivery, local system: %.3f ms; of one bare POST: %.3f ms; %.1f x", ours, floor, ours/floor)
		b.ReportMetric(ours, "cpu-ms/delivery")
		b.ReportMetric(floor, "cpu-ms/bare-post")
		b.ReportMetric(ours/floor, "x")
	}
}

// BenchmarkFigures_oneCore is how many deliveries the local system makes in a
// second on one core, from the first post to the last arrival, beside the POSTs
// of a bare client on the same core. Everything else has the other cores.
func BenchmarkFigures_oneCore(b *testing.B) {
	if _, err := exec.LookPath("taskset"); err != nil {
		b.Skip("taskset, which keeps a process on one core, is not installed")
	}
	on := func(core string) []string { return []string{"taskset", "-c", core} }
	for b.Loop() {
		r := receive(b, on("1"))
		p := localProcess(b, on("0"), "GOMAXPROCS=1")
		signedHook(p.world, r.url)
		p.traffic(r, 1000)
		took := p.traffic(r, figureEvents)
		p.kill()
		bare := r.bare(on("0"), figureEvents, "GOMAXPROCS=1")
		ours, floor := figureEvents/took.Seconds(), figureEvents/(bare.Took/1000)
		b.Logf("on one core, local system: %.0f deliveries/s; bare client: %.0f POSTs/s; %.2f of it", ours, floor, ours/floor)
		b.ReportMetric(ours, "deliveries/s")
		b.ReportMetric(floor, "bare-posts/s")
	}
}

// BenchmarkFigures_latency is how soon an event arrives after it was due to be
// posted, at a steady 150 events a second.
func BenchmarkFigures_latency(b *testing.B) {
	for b.Loop() {
		p := localProcess(b, nil)
		a := newClocked(b)
		signedHook(p.world, a.URL)
		took := a.offer(b, p.world, 3000, 150)
		b.Logf("end to end at 150 events/s: p50 %.1f ms, p99 %.1f ms", ms(percentile(took, 50)), ms(percentile(took, 99)))
		b.ReportMetric(ms(percentile(took, 50)), "p50-ms")
		b.ReportMetric(ms(percentile(took, 99)), "p99-ms")
	}
}

// BenchmarkFigures_requests is what 1,000 events ask of DynamoDB and SQS, by
// operation, counted on the wire between the built functions and the servers,
// and the CPU time that ingest and deliver take for one event, without the
// servers', the receiver's or the poller's. Beside it that of a bare client for
// one POST.
func BenchmarkFigures_requests(b *testing.B) {
	awstest.DynamoDB(b) // builds are slow: not when there is no server
	for _, m := range []mode{
		{name: "full-log", events: figureOnAWS},
		{name: "failures-only", events: figureOnAWS, params: map[string]string{"DeliveryLog": "failures"}},
		{name: "snoozed", events: figureOnAWS, option: `"snooze":3600,`},
		{name: "unchanged", events: figureOnAWS, option: `"on_change":true,`},
		{name: "failing", events: figureFailing, params: map[string]string{"RetrySchedule": "1s"}, fails: true},
	} {
		b.Run(m.name, func(b *testing.B) {
			for b.Loop() {
				m.figures(b)
			}
		})
	}
}

// mode is what is counted: what becomes of the events.
type mode struct {
	name   string
	events int
	option string // of the hook
	params map[string]string
	fails  bool // no receiver listens
}

func (mode mode) figures(b *testing.B) {
	j, m := newJudge(), &meter{}
	j.tap = m.note
	c := launch(b, "figures", allBuilt(b), mode.params, j)
	r := receive(b, nil)
	c.mint()
	c.http("admin", "PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	url := r.url
	if mode.fails {
		url = "http://" + deadAddress(b) + "/" // refused at once
	}
	c.http("admin", "POST", "/event-hooks", fmt.Sprintf(
		`{"source":"shop","event":"sold","handler":"webhook",%s"config":{"url":%q,"secret":"correct horse battery staple"}}`, mode.option, url), http.StatusCreated)
	body := "[" + strings.Repeat(figureBody()+",", figureBatch-1) + figureBody() + "]"
	post := func(events int) {
		for range events / figureBatch {
			if acceptedIDs(c.invoke("ingest", c.postEvent("/events/shop/sold", body))) == nil {
				b.Fatal("a post was not accepted")
			}
		}
	}
	post(100)
	c.pollAll(m)
	m.reset()
	m.batches = 0
	cpu := func(function string) float64 { return cpuOfProgram(b, builtOnce(b, function)) }
	ingest, deliver := cpu("ingest"), cpu("deliver")
	post(mode.events)
	c.pollAll(m)
	n := float64(mode.events)
	ingest, deliver = (cpu("ingest")-ingest)/n, (cpu("deliver")-deliver)/n
	floor := r.bare(nil, figureEvents).CPU / figureEvents

	calls, bytes := m.reset()
	b.Logf("%s: of 1,000 events in posts of %d (measured with %d)", mode.name, figureBatch, mode.events)
	perThousand, total := 1000/n, 0.0
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		times := float64(calls[call]) * perThousand
		total += times
		note := ""
		if strings.HasSuffix(call, "Query") {
			note = "  (hooks: only within 10 s of their last change)"
		}
		b.Logf("  %-26s %6.0f calls %9.1f KB sent and received%s", call, times, float64(bytes[call])/1000*perThousand, note)
	}
	b.Logf("  %-26s %6.0f, each received and deleted by Lambda's pollers", "batches", float64(m.batches)*perThousand)
	b.Logf("  CPU of one event: ingest %.3f ms, deliver %.3f ms, together %.3f ms; of one bare POST %.3f ms; %.1f x", ingest, deliver, ingest+deliver, floor, (ingest+deliver)/floor)
	b.ReportMetric(total, "requests/1000-events")
	b.ReportMetric(ingest+deliver, "cpu-ms/event")
	b.ReportMetric((ingest+deliver)/floor, "x")
}

// pollAll hands messages to deliver until nothing waits for its time either.
func (c *cloud) pollAll(m *meter) {
	c.t.Helper()
	deliver, _ := c.stack.Function("deliver")
	for {
		found := false
		for _, source := range deliver.Sources {
			if msgs := c.receive(c.resources.Queues[source.Queue], source.Batch); len(msgs) > 0 {
				found = true
				m.batches++
				c.batch(source.Queue, msgs)
			}
		}
		if found {
			continue
		}
		if c.delayed() == 0 {
			return
		}
		pause(c.t.Context(), 50*time.Millisecond) // wake-ups wait for their time, in whole seconds
	}
}

// delayed returns how many wake-ups wait for their time, or are about to come.
func (c *cloud) delayed() int {
	c.t.Helper()
	url := c.resources.Queues["RetryQueue"]
	out, err := c.queues.GetQueueAttributes(c.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for _, v := range out.Attributes {
		i, _ := strconv.Atoi(v)
		n += i
	}
	return n
}

// meter counts the calls of ingest and deliver.
type meter struct {
	batches int

	mu    sync.Mutex
	calls map[string]int
	bytes map[string]int
}

func (m *meter) note(call wireCall) {
	if call.function != "ingest" && call.function != "deliver" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls == nil {
		m.calls, m.bytes = map[string]int{}, map[string]int{}
	}
	name := call.function + " " + call.operation
	m.calls[name]++
	m.bytes[name] += len(call.request) + call.answered
}

// reset returns the counts since the last reset.
func (m *meter) reset() (calls, bytes map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls, bytes = m.calls, m.bytes
	m.calls, m.bytes = nil, nil
	return calls, bytes
}

// BenchmarkFigures_allocs counts the allocations of one delivery in deliver, in
// batches of five messages of 25 events on the embedded store: with an action
// that does nothing, and with a signed POST to a receiver in another process.
func BenchmarkFigures_allocs(b *testing.B) {
	b.Run("action=none", func(b *testing.B) { benchDeliver(b, nothing{}, "http://receiver.example.test/") })
	b.Run("action=webhook", func(b *testing.B) {
		client, err := egress.New(egress.Options{AllowLoopback: true})
		if err != nil {
			b.Fatal(err)
		}
		benchDeliver(b, action.New(action.Options{Client: client, Version: "test"}), receive(b, nil).url)
	})
}

// nothing is an action that succeeds.
type nothing struct{}

func (nothing) Do(context.Context, hook.Hook, hook.Event, time.Time) hook.Outcome {
	return hook.Outcome{Verdict: hook.Success, Code: http.StatusOK}
}

func benchDeliver(b *testing.B, act deliver.Action, url string) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.MaxBatchDelay = 100 * time.Microsecond
	st, err := boltstore.New(db, boltstore.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	open := func(name string) *boltqueue.Queue {
		q, err := boltqueue.Open(db, name, boltqueue.Options{DeadLetter: name + "-dead", MaxReceives: 10})
		if err != nil {
			b.Fatal(err)
		}
		return q
	}
	h := hook.Hook{ID: "00000000-0000-4000-8000-000000000001", Source: "shop", Event: "sold", Handler: hook.HandlerWebhook, Enabled: true}
	h.Config.URL, h.Config.Secret = url, hook.NewSecret("correct horse battery staple")
	r, err := record.Hook(h)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := st.Write(b.Context(), hook.FeedHooks, []hook.Change{{Record: r, Expect: hook.ExpectAbsent}}, nil, time.Now().UnixMilli()); err != nil {
		b.Fatal(err)
	}
	svc, err := deliver.New(deliver.Options{
		Store: st, Events: open("events"), Retry: open("retry"), Action: act, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	ids := eventid.NewGenerator(nil, nil)
	batch := func() (msgs []hook.Received) {
		for n := range 5 {
			var events []hook.Event
			for range figureBatch {
				events = append(events, hook.Event{ID: ids.Next(), Source: "shop", Event: "sold", Time: time.Now(), Data: []byte(figureBody())})
			}
			for _, p := range message.Pack(events) {
				msgs = append(msgs, hook.Received{ID: strconv.Itoa(n), Body: p.Body, Receives: 1, SentAt: time.Now()})
			}
		}
		return msgs
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += 5 * figureBatch {
		b.StopTimer()
		msgs := batch()
		b.StartTimer()
		if failed := svc.Deliver(b.Context(), msgs); len(failed) > 0 {
			b.Fatalf("messages %v come again", failed)
		}
	}
}

// figureBody is an event's data, of 1,000 bytes, as testdata/traffic posts it.
func figureBody() string {
	const head, tail = `{"item":"tea","price":3.20,"note":"`, `"}`
	return head + strings.Repeat("x", 1000-len(head)-len(tail)) + tail
}

// trafficBinary is testdata/traffic, built once.
var trafficBinary = sync.OnceValues(func() (string, error) {
	dir, err := builtDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "traffic")
	if out, err := exec.Command("go", "build", "-o", file, "./testdata/traffic").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return file, nil
})

// outside is a receiver in a process of its own.
type outside struct {
	b      *testing.B
	url    string
	posted int // events so far
}

// used is what a client of testdata/traffic says of itself.
type used struct {
	CPU  float64 `json:"cpu_ms"`
	Took float64 `json:"took_ms"`
}

// trafficCommand is a command of testdata/traffic, behind a prefix like taskset.
func trafficCommand(b *testing.B, prefix []string, args ...string) *exec.Cmd {
	b.Helper()
	file, err := trafficBinary()
	if err != nil {
		b.Fatal(err)
	}
	all := slices.Concat(prefix, []string{file}, args)
	cmd := exec.CommandContext(b.Context(), all[0], all[1:]...)
	cmd.Stderr = os.Stderr
	return cmd
}

func receive(b *testing.B, prefix []string) *outside {
	b.Helper()
	cmd := trafficCommand(b, prefix, "receive")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the receiver does not start: %v", err)
	}
	return &outside{b: b, url: strings.TrimSpace(url)}
}

// arrived waits until so many events have arrived.
func (r *outside) arrived(events int) {
	r.b.Helper()
	resp, err := http.Get(r.url + "/count?at-least=" + strconv.Itoa(events))
	if err != nil {
		r.b.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	if n, _ := strconv.Atoi(string(raw)); n < events {
		r.b.Fatalf("%d events arrived; want %d", n, events)
	}
}

// bare posts bodies by a bare client.
func (r *outside) bare(prefix []string, n int, env ...string) used {
	r.b.Helper()
	cmd := trafficCommand(r.b, prefix, "bare", "-url", r.url, "-n", strconv.Itoa(n), "-clients", strconv.Itoa(figureClients))
	cmd.Env = append(os.Environ(), env...)
	u := clientRun(r.b, cmd)
	r.posted += n
	return u
}

func clientRun(b *testing.B, cmd *exec.Cmd) (u used) {
	b.Helper()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &u)
	}
	if err != nil {
		b.Fatalf("client: %v", err)
	}
	return u
}

// traffic posts events and waits until all have arrived; it returns how long
// that took.
func (p *process) traffic(r *outside, events int) time.Duration {
	p.t.Helper()
	begin := time.Now()
	clientRun(r.b, trafficCommand(r.b, nil, "events", "-url", p.url+"/events/shop/sold", "-token", p.token,
		"-n", strconv.Itoa(events), "-batch", strconv.Itoa(figureBatch), "-clients", "4"))
	r.posted += events
	r.arrived(r.posted)
	return time.Since(begin)
}

// localProcess starts `eventhooks local`, behind a prefix like taskset.
func localProcess(b *testing.B, prefix []string, env ...string) *process {
	b.Helper()
	return runBehind(b, prefix, env, b.TempDir(), freeAddr(b), "tok-1")
}

func signedHook(w *world, url string) {
	w.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["item","n"]}`, http.StatusCreated)
	w.hook(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":"` + url + `","secret":"correct horse battery staple"}}`)
}

// cpuOf returns the CPU time of a process so far, user and system, in
// milliseconds.
func cpuOf(t testing.TB, pid int) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// Behind the name, which may have anything in it, in hundredths of a second.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) * 10
}

// cpuOfProgram is cpuOf all processes that run a program now.
func cpuOfProgram(t testing.TB, file string) (total float64) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == file {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			total += cpuOf(t, pid)
		}
	}
	return total
}
