package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/lua"
)

// program is the eventhooks binary, built once for all tests that run it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := builtDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "eventhooks")
	if out, err := exec.Command("go", "build", "-o", file, "eventhooks/cmd/eventhooks").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return file, nil
})

// builtDir returns the directory of what is built for several tests; TestMain
// removes it.
var builtDir = sync.OnceValues(func() (dir string, err error) {
	built, err = os.MkdirTemp("", "eventhooks-e2e-")
	return built, err
})

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
func run(t testing.TB, dir, addr, token string, args ...string) *process {
	t.Helper()
	return runBehind(t, nil, nil, dir, addr, token, args...)
}

// runBehind is run behind a command that runs another, like taskset, and with
// more in its environment.
func runBehind(t testing.TB, prefix, env []string, dir, addr, token string, args ...string) *process {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(prefix, []string{file, "local", "--data", dir, "--addr", addr, "--token", token}, args)
	p := &process{world: &world{t: t, url: "http://" + addr, token: token}, cmd: exec.Command(all[0], all[1:]...), out: &buffer{}}
	p.cmd.Env = append(os.Environ(), env...)
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
		pause(t.Context(), 5*time.Millisecond) // between two looks at another process, bounded above
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
func freeAddr(t testing.TB) string {
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
// with a flaky receiver. Every accepted event must arrive, and be on record as
// delivered; and what arrives twice must have been in flight, or not on record
// yet, when a blow fell. The long form is `make crashtest`.
func TestKill_nothingAcceptedIsLost(t *testing.T) {
	kills := killCount(t, 5, os.Getenv("EVENTHOOKS_KILLS"))
	seed := uint64(time.Now().UnixNano())
	chance := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, %d kills", seed, kills)
	r := newWitness(t, seed)

	dir, addr := t.TempDir(), freeAddr(t)
	start := func() *process {
		return run(t, dir, addr, "tok-1", "--retry-schedule", strings.Repeat("200ms,", 19)+"200ms")
	}
	p := start()
	p.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	hookID := p.hook(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":"` + r.url + `"}}`)

	var accepted []string
	var blows []killing
	for n := 0; len(blows) < kills; {
		// The blow falls after so many more requests have reached the receiver.
		wait := 5 + chance.IntN(40)
		dead := make(chan killing)
		go func() {
			for range wait {
				<-r.seen
			}
			dead <- r.strike(t, p.kill)
		}()
		for alive := true; alive; {
			n++
			var id string
			if id, alive = tryPost(p, fmt.Sprintf(`{"item":"item-%d"}`, n)); alive {
				accepted = append(accepted, id)
			}
		}
		blows = append(blows, <-dead)
		p = start()
	}
	eventually(t, func() string {
		missing := 0
		for _, id := range accepted {
			if len(r.accepted(id)) == 0 {
				missing++
			}
		}
		if missing == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d accepted events did not arrive (seed %d)\n%s", missing, len(accepted), seed, p.out)
	})
	eventually(t, func() string {
		if n := len(p.call("GET", "/event-hooks/"+hookID+"/deliveries?status=pending", "", http.StatusOK)["data"].([]any)); n > 0 {
			return fmt.Sprintf("%d deliveries are still pending (seed %d)", n, seed)
		}
		return ""
	})

	twice, widest := 0, time.Duration(0)
	for _, id := range r.events() {
		arrivals := r.accepted(id)
		for i := 1; i < len(arrivals); i++ {
			twice++
			// The life in which it arrived first ended with this blow.
			n := slices.IndexFunc(blows, func(k killing) bool { return arrivals[i-1].Before(k.ended) })
			if n < 0 || arrivals[i].Before(blows[n].ended) {
				t.Errorf("event %s arrived at %v and at %v, and nobody was killed in between (seed %d)", id, arrivals[i-1], arrivals[i], seed)
				continue
			}
			widest = max(widest, blows[n].began.Sub(arrivals[i-1]))
			// A success is on record once, and nothing replaces it. That a later
			// one is there says that this one was not when the blow fell.
			if at := successAt(t, p.world, hookID, id); at.Before(blows[n].began.Truncate(time.Millisecond)) {
				t.Errorf("event %s arrived again at %v, after the kill of %v, though its success of %v was on record (seed %d)", id, arrivals[i], blows[n].began, at, seed)
			}
		}
	}
	onRecord(t, p.world, hookID, accepted)
	t.Logf("%d kills, %d accepted, none lost; %d arrived again, each within %v before a kill", len(blows), len(accepted), twice, widest)
}

// successAt returns when the attempt was made that is on record as the
// delivery's success.
func successAt(t *testing.T, w *world, hookID, eventID string) time.Time {
	t.Helper()
	row := w.call("GET", "/event-hooks/"+hookID+"/deliveries/"+eventID, "", http.StatusOK)
	for _, a := range row["attempts"].([]any) {
		if a := a.(map[string]any); fmt.Sprint(a["status"]) == "200" {
			at, err := time.Parse(time.RFC3339, a["at"].(string))
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Errorf("no success among the attempts of %v", row)
	return time.Time{}
}

// onRecord wants each event delivered, by the log of deliveries.
func onRecord(t *testing.T, w *world, hookID string, accepted []string) {
	t.Helper()
	status := map[string]any{}
	for path := "/event-hooks/" + hookID + "/deliveries?size=1000"; path != ""; {
		page := w.call("GET", path, "", http.StatusOK)
		for _, d := range page["data"].([]any) {
			row := d.(map[string]any)
			status[row["event_id"].(string)] = row["status"]
		}
		path, _ = page["next"].(string)
	}
	for _, id := range accepted {
		if status[id] != "delivered" {
			t.Errorf("event %s is %v on record; want delivered", id, status[id])
		}
	}
}

// tryPost posts one event, and returns its id if it was accepted.
func tryPost(p *process, body string) (id string, accepted bool) {
	req, err := http.NewRequest("POST", p.url+"/events/shop/sold", strings.NewReader(body))
	if err != nil {
		return "", false
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	var answer struct{ Events []struct{ ID string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusAccepted || len(answer.Events) != 1 {
		return "", false
	}
	return answer.Events[0].ID, true
}
