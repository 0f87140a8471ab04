package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/lua"
)

// program is the eventhooks binary, built once for all tests that run it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "eventhooks-e2e-")
	if err != nil {
		return "", err
	}
	built = dir
	file := filepath.Join(dir, "eventhooks")
	if out, err := exec.Command("go", "build", "-o", file, "eventhooks/cmd/eventhooks").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return file, nil
})

// built is the directory of what tests built; TestMain removes it.
var built string

func TestMain(m *testing.M) {
	lua.RunIfChild()
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// process is `eventhooks local` as a process of its own.
type process struct {
	*world
	cmd *exec.Cmd
	out *buffer
}

// run starts the program and waits until it is ready, at most 5 s: that is a
// promise.
func run(t *testing.T, dir, addr, token string, args ...string) *process {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"local", "--data", dir, "--addr", addr, "--token", token}, args...)
	p := &process{world: &world{t: t, url: "http://" + addr, token: token}, cmd: exec.Command(file, args...), out: &buffer{}}
	p.log = p.out
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	begun := time.Now()
	for {
		resp, err := http.Get(p.url + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("not ready within 5 s: %v\n%s", err, p.out)
		}
		time.Sleep(5 * time.Millisecond) // a poll of another process, bounded above
	}
}

// kill ends the process without a warning.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

// freeAddr is a loopback address that nobody listened on just now. It lies below
// the range from which the system gives out ports, so that no other test's
// connection takes it between two lives of a process.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func TestKill_everythingIsThereAfterwards(t *testing.T) {
	dir, addr := t.TempDir(), freeAddr(t)
	start := func() *process { return run(t, dir, addr, "tok-1", "--retry-schedule", "1s,2s,2s") }
	p := start()
	r, down := newReceiver(t), newReceiver(t, 500)
	p.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	quiet := p.hook(`{"source":"shop","event":"sold","handler":"webhook","snooze":3600,"config":{"url":"` + r.URL + `"}}`)
	waiting := p.hook(`{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"` + down.URL + `"}}`)
	token := p.call("POST", "/tokens", `{"name":"gateway","scopes":["ingest"]}`, http.StatusCreated)["token"].(string)

	first := p.post("/events/shop/sold", `{"item":"tea"}`)[0]
	r.next(t)
	p.delivery(quiet, first, "delivered")
	retried := p.post("/events", `{"source":"crud","event":"consumers","data":{}}`)[0]
	down.next(t) // the failed attempt
	eventually(t, func() string {
		for _, d := range p.call("GET", "/event-hooks/"+waiting+"/deliveries", "", http.StatusOK)["data"].([]any) {
			if d.(map[string]any)["event_id"] == retried {
				return "" // a row is there from the first failure on
			}
		}
		return "the failed attempt is not on record"
	})
	key := func(p *process) string {
		req, _ := http.NewRequest("POST", p.url+"/events/shop/sold", strings.NewReader(`{"item":"tea"}`))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "order-1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		return string(body)
	}
	before := key(p)

	p.kill()
	p = start()

	if got := p.call("GET", "/event-hooks/"+quiet, "", http.StatusOK)["id"]; got != quiet {
		t.Errorf("hook = %v; want %s", got, quiet)
	}
	p.call("GET", "/event-hooks/sources/shop/sold", "", http.StatusOK)
	if after := key(p); after != before {
		t.Errorf("the repeated post answered %s; want %s as before", after, before)
	}
	down.next(t) // the wake-up
	if row := p.delivery(waiting, retried, "delivered"); len(row["attempts"].([]any)) != 2 {
		t.Errorf("attempts = %v; want two: the one before the kill, and one after", row["attempts"])
	}
	p.delivery(quiet, first, "delivered")
	// The window is still open: nothing more arrives of the same event.
	same := p.post("/events/shop/sold", `{"item":"tea"}`)[0]
	other := p.post("/events/shop/sold", `{"item":"coffee"}`)[0]
	p.delivery(quiet, other, "delivered")
	if body := object(t, r.next(t).body); body["item"] != "coffee" {
		t.Errorf("%v arrived; want coffee: tea (%s) is snoozed", body, same)
	}
}

// TestKill_nothingAcceptedIsLost kills the system at random moments under load
// with a flaky receiver. Every accepted event must arrive. The long form is
// `make crashtest`.
func TestKill_nothingAcceptedIsLost(t *testing.T) {
	kills := 5
	if n := os.Getenv("EVENTHOOKS_KILLS"); n != "" {
		if _, err := fmt.Sscan(n, &kills); err != nil {
			t.Fatalf("EVENTHOOKS_KILLS: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	chance := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %d kills", seed, kills)

	var mu sync.Mutex
	arrived := map[string]int{} // by item, answered with 200
	seen := make(chan struct{}, 100_000)
	flaky := newHandler(t, func(item string) int {
		mu.Lock()
		defer mu.Unlock()
		seen <- struct{}{}
		if chance.IntN(3) == 0 {
			return http.StatusServiceUnavailable
		}
		arrived[item]++
		return http.StatusOK
	})

	dir, addr := t.TempDir(), freeAddr(t)
	start := func() *process {
		return run(t, dir, addr, "tok-1", "--retry-schedule", "50ms,100ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms")
	}
	p := start()
	p.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	p.hook(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":"` + flaky + `"}}`)

	var accepted []string
	n := 0
	for range kills {
		// The blow falls after so many more requests have reached the receiver.
		blow := 5 + rand.IntN(40)
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			for range blow {
				<-seen
			}
			p.kill()
		}()
		for alive := true; alive; {
			n++
			item := fmt.Sprintf("item-%d", n)
			alive = tryPost(p, `{"item":"`+item+`"}`)
			if alive {
				accepted = append(accepted, item)
			}
		}
		<-dead
		p = start()
	}
	eventually(t, func() string {
		mu.Lock()
		defer mu.Unlock()
		missing := 0
		for _, item := range accepted {
			if arrived[item] == 0 {
				missing++
			}
		}
		if missing == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d accepted events did not arrive (seed %d)\n%s", missing, len(accepted), seed, p.out)
	})
	twice := 0
	for _, times := range arrived {
		twice += times - 1
	}
	t.Logf("%d accepted, all arrived; %d arrived again, in %d kills", len(accepted), twice, kills)
	// Only what was in flight when the blow fell may come twice.
	if most := kills * 64; twice > most {
		t.Errorf("%d duplicates; want at most %d", twice, most)
	}
}

// tryPost posts one event, and says whether it was accepted.
func tryPost(p *process, body string) bool {
	req, err := http.NewRequest("POST", p.url+"/events/shop/sold", strings.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusAccepted
}

// newHandler serves a hook's target that answers by the item of each event.
func newHandler(t *testing.T, answer func(item string) int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(bufio.NewReader(r.Body))
		if err != nil {
			return // the sender died
		}
		if item, ok := object(t, body)["item"].(string); ok {
			w.WriteHeader(answer(item))
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}
