// Package e2e runs whole scenarios through public interfaces: HTTP in, HTTP
// out, and the log.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/local"
)

// patience bounds every wait for something that must happen. It is long, so
// that a slow machine fails no test; nothing waits for it when all is well.
const patience = 30 * time.Second

// world is a running system as a client sees it.
type world struct {
	t     testing.TB
	url   string
	token string
	log   *buffer // what the log action wrote
}

// start runs a local system until the test ends.
func start(t testing.TB, o local.Options) *world {
	t.Helper()
	out := &buffer{}
	o.Addr, o.Version, o.Events = "127.0.0.1:0", "test", out
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &world{t: t, url: s.URL(), token: s.Token(), log: out}
}

// call makes one request, wants the status, and returns the answer's JSON.
func (w *world) call(method, path, body string, want int) map[string]any {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != want {
		w.t.Fatalf("%s %s = %d %s; want %d", method, path, resp.StatusCode, raw, want)
	}
	if len(raw) == 0 {
		return nil
	}
	return object(w.t, raw)
}

// post posts events and returns their ids.
func (w *world) post(path, body string) []string {
	w.t.Helper()
	var ids []string
	for _, ev := range w.call("POST", path, body, http.StatusAccepted)["events"].([]any) {
		ids = append(ids, ev.(map[string]any)["id"].(string))
	}
	return ids
}

// hook creates a hook and returns its id.
func (w *world) hook(body string) string {
	w.t.Helper()
	return w.call("POST", "/event-hooks", body, http.StatusCreated)["id"].(string)
}

// delivery waits until the delivery has the status, and returns its row.
func (w *world) delivery(hookID, eventID, status string) map[string]any {
	w.t.Helper()
	var row map[string]any
	eventually(w.t, func() string {
		for _, d := range w.call("GET", "/event-hooks/"+hookID+"/deliveries", "", http.StatusOK)["data"].([]any) {
			row = d.(map[string]any)
			if row["event_id"] == eventID {
				if row["status"] == status {
					return ""
				}
				return fmt.Sprintf("delivery is %v; want %s", row, status)
			}
		}
		return "no such delivery; want one that is " + status
	})
	return row
}

func object(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not a JSON object: %v in %s", err, raw)
	}
	return v
}

// eventually asks until there is no complaint.
func eventually(t testing.TB, complaint func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c := complaint()
		if c == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(c)
		}
	}
}

// pause waits for d, or until ctx ends: for the pace of a load, the time that a
// receiver takes, and between two looks at other processes. Nothing is taken to
// have happened because it is over.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// receiver is a hook's target: it keeps what arrives, and answers as told.
type receiver struct {
	*httptest.Server
	got chan request

	mu     sync.Mutex
	answer []int // statuses of the next requests; then 200
}

// request is what arrived.
type request struct {
	header http.Header
	method string
	body   []byte
	at     time.Time
}

func newReceiver(t testing.TB, answers ...int) *receiver {
	r := &receiver{got: make(chan request, 10_000), answer: answers}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		status := http.StatusOK
		r.mu.Lock()
		// The ping that a new webhook hook sends is answered at once.
		if !bytes.Contains(body, []byte(`"kong:event_hooks"`)) {
			if len(r.answer) > 0 {
				status, r.answer = r.answer[0], r.answer[1:]
			}
			r.got <- request{req.Header, req.Method, body, time.Now()}
		}
		r.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

// next waits for the next request that is not a ping.
func (r *receiver) next(t *testing.T) request {
	t.Helper()
	select {
	case req := <-r.got:
		return req
	case <-time.After(patience):
		t.Fatal("nothing arrived")
		return request{}
	}
}

// nothing wants that no further request has arrived. Call it when the system
// is known to be done.
func (r *receiver) nothing(t *testing.T) {
	t.Helper()
	select {
	case req := <-r.got:
		t.Errorf("another request arrived: %s", req.body)
	default:
	}
}

// buffer is an io.Writer that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
