package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness is a hook's target that is down now and then, and remembers what it
// said to whom, and when.
type witness struct {
	url string
	// seen takes a note of each request, for who waits for the next ones.
	seen chan struct{}

	mu      sync.Mutex
	chance  *rand.Rand
	healthy bool
	said    map[string][]testimony // by event id
	heard   int                    // events answered with 200
	open    map[net.Conn]bool
	changed chan struct{} // closed, and another one made, when a connection ends
}

// testimony is one request of an event, and the answer to it.
type testimony struct {
	at     time.Time // it had arrived
	status int
}

// newWitness answers two requests of three with 200, up to 10 ms late, and the
// others with 503.
func newWitness(t testing.TB, seed uint64) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{
		url: "http://" + l.Addr().String(), seen: make(chan struct{}, 1_000_000),
		chance: rand.New(rand.NewPCG(seed, 1)), said: map[string][]testimony{},
		open: map[net.Conn]bool{}, changed: make(chan struct{}),
	}
	srv := &http.Server{Handler: w, ConnState: w.conn}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return w
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if r.Method != http.MethodPost || err != nil || bytes.Contains(body, []byte(`"kong:event_hooks"`)) {
		return // not an event: the sender died in the middle of it, or it is a new hook's ping
	}
	at := time.Now()
	event, _, _ := strings.Cut(r.Header.Get("webhook-id"), "_")
	w.mu.Lock()
	status, late := http.StatusOK, time.Duration(w.chance.IntN(10_000))*time.Microsecond
	if !w.healthy && w.chance.IntN(3) == 0 {
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusOK && !slices.ContainsFunc(w.said[event], func(s testimony) bool { return s.status == status }) {
		w.heard++
	}
	w.said[event] = append(w.said[event], testimony{at, status})
	w.mu.Unlock()
	w.seen <- struct{}{}
	pause(r.Context(), late) // a receiver that has something to do: attempts are in flight when a blow falls
	rw.WriteHeader(status)
}

// heal makes the receiver answer 200 from now on.
func (w *witness) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.healthy = true
}

// accepted returns when the event was answered with 200, in order.
func (w *witness) accepted(event string) (at []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.said[event] {
		if s.status == http.StatusOK {
			at = append(at, s.at)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// arrived returns how many events were answered with 200 once at least.
func (w *witness) arrived() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard
}

// events returns the ids of all events that arrived.
func (w *witness) events() (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.said {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// killing is one blow: the processes were alive before began; when it ended
// they were gone, and all that they had sent had arrived.
type killing struct{ began, ended time.Time }

// strike deals a blow: kill ends processes and returns when they are gone. All
// senders must be among them. What they wrote last is still in the network's
// buffers then; strike waits until the receiver has read it, so that a request
// which arrives later is a later process's.
func (w *witness) strike(t testing.TB, kill func()) killing {
	k := killing{began: time.Now()}
	kill()
	// Connections are accepted in order: when this request is answered, the
	// server knows of all that were opened before. A connection ends when the
	// last request on it has been read and its handler is done.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(w.url)
	if err != nil {
		t.Errorf("ask the receiver: %v", err)
		return k
	}
	resp.Body.Close()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		open, changed := len(w.open), w.changed
		w.mu.Unlock()
		if open == 0 {
			break
		}
		select {
		case <-changed:
		case <-late.C:
			t.Errorf("%d connections of processes that are gone are open", open)
			return k
		}
	}
	k.ended = time.Now()
	return k
}

// conn keeps the account of open connections.
func (w *witness) conn(c net.Conn, state http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch state {
	case http.StateNew:
		w.open[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(w.open, c)
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// killCount is how often a test kills: few, or EVENTHOOKS_KILLS.
func killCount(t *testing.T, few int, setting string) int {
	t.Helper()
	if setting != "" {
		if _, err := fmt.Sscan(setting, &few); err != nil || few < 1 {
			t.Fatalf("EVENTHOOKS_KILLS = %q; want a number", setting)
		}
	}
	return few
}
