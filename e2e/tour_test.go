package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/local"
	"eventhooks/internal/retry"
	"eventhooks/internal/sign"
)

// The Slack message of Kong's blog post on event hooks.
const slackText = `"text":"Upstream {{upstream_id}} is {{health}}. Tried to connect to port {{port}} on {{hostname}}/{{ip}}"`

// The same as Slack blocks, a JSON document inside a string.
const slackBlocks = `"blocks":"[{\"type\":\"section\",\"text\":{\"type\":\"mrkdwn\",\"text\":\"Upstream {{upstream_id}} is {{health}}. Tried to connect to port {{port}} on {{hostname}}/{{ip}}\"}}]"`

func slackHook(url, payload string) string {
	return `{"source":"balancer","event":"health","handler":"webhook-custom","config":{"method":"POST","url":"` + url + `/services/T/B/x","headers":{"Content-Type":"application/json"},"payload":{` + payload + `}}}`
}

func TestTour_slackHearsOfAnUpstreamThatWentDown(t *testing.T) {
	w := start(t, local.Options{ProbeEvery: 50 * time.Millisecond})
	text, blocks := newReceiver(t), newReceiver(t)
	w.hook(slackHook(text.URL, slackText))
	w.hook(slackHook(blocks.URL, slackBlocks))

	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer upstream.Close()
	host, port, err := net.SplitHostPort(upstream.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	id := w.call("POST", "/upstreams", `{"name":"web.example.test","healthchecks":{"active":{"http_path":"/","timeout":1,
		"healthy":{"interval":0.05,"successes":1},"unhealthy":{"interval":0.05,"tcp_failures":2,"http_failures":2,"timeouts":2}}}}`, http.StatusCreated)["id"].(string)
	w.call("POST", "/upstreams/"+id+"/targets", `{"target":"`+net.JoinHostPort(host, port)+`"}`, http.StatusCreated)
	eventually(t, func() string {
		rows := w.call("GET", "/upstreams/"+id+"/health", "", http.StatusOK)["data"].([]any)
		if len(rows) == 1 && rows[0].(map[string]any)["health"] == "HEALTHY" {
			return ""
		}
		return fmt.Sprintf("health is %v; want HEALTHY", rows)
	})

	upstream.Close() // it dies, for real

	want := fmt.Sprintf("Upstream %s is unhealthy. Tried to connect to port %s on %s/%s", id, port, host, host)
	if got := object(t, text.next(t).body)["text"]; got != want {
		t.Errorf("text = %q; want %q", got, want)
	}
	inner := object(t, blocks.next(t).body)["blocks"].(string)
	if !strings.HasPrefix(inner, "[") {
		t.Fatalf("blocks = %s; want a JSON array", inner)
	}
	section := object(t, []byte(strings.TrimSuffix(strings.TrimPrefix(inner, "["), "]")))
	if got := section["text"].(map[string]any)["text"]; got != want {
		t.Errorf("block text = %q; want %q", got, want)
	}
	rows := w.call("GET", "/upstreams/"+id+"/health", "", http.StatusOK)["data"].([]any)
	if got := rows[0].(map[string]any)["health"]; got != "UNHEALTHY" {
		t.Errorf("health = %v; want UNHEALTHY", got)
	}
}

const adminCreated = `{"source":"crud","event":"admins:create","data":{"schema":"admins","operation":"create",
	"entity":{"id":"3f1c2a59-4b7d-4e96-bd7f-6a5b5f6c1e22","username":"mallory","email":"mallory@elsewhere.test","status":4}}}`

func TestTour_anAdminIsLoggedAndSentSigned(t *testing.T) {
	w := start(t, local.Options{})
	r := newReceiver(t)
	logHook := w.hook(`{"source":"crud","event":"admins:create","handler":"log"}`)
	webhook := w.hook(`{"source":"crud","event":"admins:create","handler":"webhook","config":{"url":"` + r.URL + `","secret":"topsecret"}}`)
	id := w.post("/events", adminCreated)[0]

	got := r.next(t)
	if err := sign.Verify(hook.NewSecret("topsecret"), got.header, got.body, time.Now()); err != nil {
		t.Errorf("signature: %v", err)
	}
	if got.header.Get("x-kong-signature") == "" || got.header.Get("webhook-signature") == "" {
		t.Errorf("both signatures are wanted; got %v", got.header)
	}
	body := object(t, got.body)
	if body["source"] != "crud" || body["event"] != "admins:create" || body["schema"] != "admins" {
		t.Errorf("body = %s; want the data flat, with source and event", got.body)
	}
	if email := body["entity"].(map[string]any)["email"]; email != "mallory@elsewhere.test" {
		t.Errorf("entity.email = %v", email)
	}
	if got, want := got.header.Get("webhook-id"), id+"_"+webhook; got != want {
		t.Errorf("webhook-id = %q; want %q", got, want)
	}
	w.delivery(webhook, id, "delivered")
	w.delivery(logHook, id, "delivered")
	line := object(t, []byte(strings.TrimSpace(w.log.String())))
	if line["msg"] != "event hook" || line["hook_id"] != logHook || line["event_id"] != id {
		t.Errorf("log line = %v", line)
	}
	if line["data"].(map[string]any)["operation"] != "create" {
		t.Errorf("data in the log = %v", line["data"])
	}
}

func TestTour_oneGlobalHookGetsEveryGatewaysLog(t *testing.T) {
	w := start(t, local.Options{})
	r := newReceiver(t)
	w.call("PUT", "/event-hooks/sources/http-log/log", `{"description":"A request went through a gateway","fields":["request","response","latencies","client_ip","started_at"]}`, http.StatusCreated)
	w.hook(`{"source":"http-log","event":"log","handler":"webhook","config":{"url":"` + r.URL + `"}}`)

	entry := func(n int) string {
		return fmt.Sprintf(`{"request":{"method":"GET","uri":"/%d","size":139},"response":{"status":200,"headers":{}},"latencies":{"kong":1,"proxy":171,"request":173},
			"client_ip":"192.168.65.1","started_at":1726783839538,"source":"upstream","workspace":"f381e34e-5c25-4e65-b91b-3c0a86cfc393","tries":[{"balancer_start_ns":1.7267838395395e+18}]}`, n)
	}
	ids := w.post("/events/http-log/log", entry(1))
	ids = append(ids, w.post("/events/http-log/log", "["+entry(2)+","+entry(3)+"]")...)
	if len(ids) != 3 {
		t.Fatalf("%d ids; want 3", len(ids))
	}
	seen := map[string]bool{}
	for range ids {
		req := r.next(t)
		body := object(t, req.body)
		if body["source"] != "http-log" || body["event"] != "log" || fmt.Sprint(body["started_at"]) != "1726783839538" {
			t.Errorf("body = %s", req.body)
		}
		if !strings.Contains(string(req.body), `1.7267838395395e+18`) {
			t.Errorf("a number was not kept as sent: %s", req.body)
		}
		seen[body["request"].(map[string]any)["uri"].(string)] = true
	}
	for _, uri := range []string{"/1", "/2", "/3"} {
		if !seen[uri] {
			t.Errorf("entry %s did not arrive; got %v", uri, seen)
		}
	}
}

func TestTour_aReceiverThatWasDownGetsTheEventOnce(t *testing.T) {
	waits := retry.Schedule{200 * time.Millisecond, 300 * time.Millisecond, 400 * time.Millisecond, time.Minute}
	w := start(t, local.Options{Schedule: waits})
	r := newReceiver(t, 503, 500, 429)
	id := w.hook(`{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"` + r.URL + `"}}`)
	event := w.post("/events", `{"source":"crud","event":"consumers","data":{"operation":"create"}}`)[0]

	var last request
	for i := range 4 {
		req := r.next(t)
		if i > 0 {
			if waited := req.at.Sub(last.at); waited < waits[i-1] {
				t.Errorf("attempt %d came %v after the one before; want at least %v", i+1, waited, waits[i-1])
			}
			if req.header.Get("webhook-id") != last.header.Get("webhook-id") {
				t.Errorf("webhook-id changed from %q to %q", last.header.Get("webhook-id"), req.header.Get("webhook-id"))
			}
		}
		last = req
	}
	row := w.delivery(id, event, "delivered")
	attempts := row["attempts"].([]any)
	var codes []string
	for _, a := range attempts {
		codes = append(codes, fmt.Sprint(a.(map[string]any)["status"]))
	}
	if got, want := strings.Join(codes, " "), "503 500 429 200"; got != want {
		t.Errorf("attempts = %s; want %s", got, want)
	}
	r.nothing(t)
}

func TestTour_aReceiverThatStaysDownIsOnRecordAsFailed(t *testing.T) {
	w := start(t, local.Options{Schedule: retry.Schedule{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}})
	r := newReceiver(t, 500, 500, 500, 500, 500, 500)
	id := w.hook(`{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"` + r.URL + `"}}`)
	event := w.post("/events", `{"source":"crud","event":"consumers","data":{"operation":"create"}}`)[0]
	row := w.delivery(id, event, "failed")
	if n := len(row["attempts"].([]any)); n != 4 {
		t.Errorf("%d attempts; want 4: one and three retries", n)
	}
	if row["reason"] != hook.ReasonExhausted {
		t.Errorf("reason = %v; want %s", row["reason"], hook.ReasonExhausted)
	}
}

func TestTour_snoozeSilencesTheSameEventOnly(t *testing.T) {
	w := start(t, local.Options{})
	r := newReceiver(t)
	w.hook(`{"source":"balancer","event":"health","handler":"webhook","snooze":60,"config":{"url":"` + r.URL + `"}}`)
	all := w.hook(`{"source":"balancer","event":"health","handler":"log"}`)
	down := func(ip string) string {
		return `{"source":"balancer","event":"health","data":{"upstream_id":"u","ip":"` + ip + `","port":3000,"hostname":"web","health":"unhealthy"}}`
	}
	var last string
	for _, ip := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"} {
		last = w.post("/events", down(ip))[0]
		w.delivery(all, last, "delivered")
	}
	got := map[string]bool{}
	for range 2 {
		got[object(t, r.next(t).body)["ip"].(string)] = true
	}
	if !got["10.0.0.1"] || !got["10.0.0.2"] {
		t.Errorf("told of %v; want both targets", got)
	}
	r.nothing(t)
}

// It answers 410, which is the end of each delivery: one that fails would have
// its hook's breaker open, and they would wait.
func TestTour_aReceiverThatWasGoneForLongGetsWhatItMissedWhenAsked(t *testing.T) {
	const missed = 120
	w := start(t, local.Options{})
	answers := make([]int, missed)
	for i := range answers {
		answers[i] = http.StatusGone
	}
	r := newReceiver(t, answers...)
	id := w.hook(`{"source":"crud","event":"consumers","handler":"webhook-custom","config":{"method":"POST","url":"` + r.URL + `","headers":{"Content-Type":"application/json"},"payload":{"n":"{{n}}"}}}`)
	var events []string
	for n := range missed {
		events = append(events, fmt.Sprintf(`{"source":"crud","event":"consumers","data":{"n":%d}}`, n))
	}
	w.post("/events", "["+strings.Join(events, ",")+"]")
	for range missed {
		r.next(t)
	}
	failed := func() int {
		return len(w.call("GET", "/event-hooks/"+id+"/deliveries?status=failed&size=1000", "", http.StatusOK)["data"].([]any))
	}
	eventually(t, func() string {
		if n := failed(); n != missed {
			return fmt.Sprintf("%d deliveries failed; want %d", n, missed)
		}
		return ""
	})

	want := map[string]any{"matched": json.Number("120"), "queued": json.Number("120"), "next": nil}
	if diff := cmp.Diff(want, w.call("POST", "/event-hooks/"+id+"/redeliver", `{}`, http.StatusOK)); diff != "" {
		t.Errorf("redeliver (-want +got):\n%s", diff)
	}
	seen := map[string]bool{}
	for range missed {
		seen[fmt.Sprint(object(t, r.next(t).body)["n"])] = true
	}
	if len(seen) != missed {
		t.Errorf("%d different events arrived; want %d", len(seen), missed)
	}
	eventually(t, func() string {
		rows := w.call("GET", "/event-hooks/"+id+"/deliveries?status=delivered&size=1000", "", http.StatusOK)["data"].([]any)
		if len(rows) != missed {
			return fmt.Sprintf("%d deliveries arrived; want %d", len(rows), missed)
		}
		return ""
	})
	if n := failed(); n != 0 {
		t.Errorf("%d deliveries are still failed; want none", n)
	}
	r.nothing(t)
}

// A receiver that answers 500 to everything is left alone after ten failures in a
// row: what comes waits, who listens is told, and what a person sends again is
// attempted at once.
func TestTour_aReceiverThatIsDownIsLeftAlone(t *testing.T) {
	w := start(t, local.Options{})
	r := newReceiver(t, slices.Repeat([]int{http.StatusInternalServerError}, 10)...)
	operator := newReceiver(t)
	w.hook(`{"source":"eventhooks","event":"breaker-opened","handler":"webhook","config":{"url":"` + operator.URL + `"}}`)
	// Not a webhook hook: its ping would succeed in between, and begin a new row.
	id := w.hook(`{"source":"crud","event":"consumers","handler":"webhook-custom","name":"on-call","config":{"method":"POST","url":"` + r.URL + `"}}`)
	w.post("/events", "["+strings.TrimSuffix(strings.Repeat(`{"source":"crud","event":"consumers","data":{}},`, 10), ",")+"]")
	for range 10 {
		r.next(t)
	}
	if told := object(t, operator.next(t).body); told["hook_name"] != "on-call" || told["failures"] != json.Number("10") {
		t.Errorf("told %v; want ten failures of on-call", told)
	}
	held := w.post("/events", `{"source":"crud","event":"consumers","data":{}}`)[0]
	if row := w.delivery(id, held, "pending"); row["reason"] != hook.ReasonBreaker || len(row["attempts"].([]any)) != 0 {
		t.Errorf("row = %v; want that it waits for the breaker, without an attempt", row)
	}
	r.nothing(t)
	w.call("POST", "/event-hooks/"+id+"/deliveries/"+held+"/redeliver", "", http.StatusAccepted)
	w.delivery(id, held, "delivered")
}
