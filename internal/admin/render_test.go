package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/sign"
)

// request returns the request of an answer.
func requestOf(t testing.TB, got map[string]any) (headers map[string]any, request map[string]any) {
	t.Helper()
	request, isRequest := got["request"].(map[string]any)
	if !isRequest {
		t.Fatalf("request = %v; error = %v", got["request"], got["error"])
	}
	return request["headers"].(map[string]any), request
}

func TestRender_isWhatIsSent(t *testing.T) {
	s := newServer(t)
	got := s.must(200, "POST", "/event-hooks/render", `{"hook":{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"https://ok.test/x?y=z","secret":"topsecret",
		"headers":{"x-team":"platform","Authorization":"Bearer mine"}}},"data":{"n":1.50,"big":12345678901234567890},"workspace":"w"}`)
	headers, request := requestOf(t, got)
	ev := got["event"].(map[string]any)
	wantBody := `{"source":"crud","event":"consumers","n":1.50,"big":12345678901234567890}`
	if request["method"] != "POST" || request["url"] != "https://ok.test/x?y=z" || request["body"] != wantBody {
		t.Errorf("request = %v", request)
	}
	// The secret came with the request, so that its signatures may go back.
	id := headers["Webhook-Id"].(string)
	if headers["X-Kong-Signature"] != sign.Kong(hook.NewSecret("topsecret"), "sha256", []byte(wantBody)) ||
		headers["Webhook-Signature"] != sign.Standard(hook.NewSecret("topsecret"), id, clock, []byte(wantBody)) {
		t.Errorf("signatures %v, %v", headers["X-Kong-Signature"], headers["Webhook-Signature"])
	}
	if headers["Authorization"] != "Bearer mine" || headers["X-Team"] != "platform" || headers["User-Agent"] != "eventhooks/1.2.3" || headers["Webhook-Timestamp"] != fmt.Sprint(clock.Unix()) {
		t.Errorf("headers = %v", headers)
	}
	if !strings.HasPrefix(id, ev["id"].(string)+"_") || ev["source"] != "crud" || ev["event"] != "consumers" || ev["workspace"] != "w" || ev["time"] != "2026-11-21T18:00:00.123Z" {
		t.Errorf("event = %v, webhook-id %s", ev, id)
	}
	if got["matches"] != true || len(got["reasons"].([]any)) != 0 || got["error"] != nil || len(got["warnings"].([]any)) != 0 {
		t.Errorf("answer = %v", got)
	}
	if len(s.action.seen) != 0 || len(s.queue.sent) != 0 {
		t.Error("something was sent")
	}
	if got := s.must(200, "GET", "/event-hooks", "")["data"].([]any); len(got) != 0 {
		t.Errorf("%d hooks are stored; want none", len(got))
	}
}

func TestRender_secretsOfAStoredHook(t *testing.T) {
	s := newServer(t)
	const secret = "open-sesame"
	id := s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"webhook","enabled":false,"config":{"url":"https://ok.test/","secret":"`+secret+`","headers":{"Authorization":"`+secret+`","X-Plain":"seen"}}}`)["id"].(string)
	stored := string(s.do("GET", "/event-hooks/"+id, "").body)

	t.Run("a hook as it was read is rendered with its secrets, and none is shown", func(t *testing.T) {
		got := s.do("POST", "/event-hooks/render", `{"hook":`+stored+`,"data":{}}`)
		headers, _ := requestOf(t, got.json(t))
		if got.status != 200 || strings.Contains(string(got.body), secret) {
			t.Errorf("answer %d: %s", got.status, got.body)
		}
		for _, name := range []string{"Authorization", "Webhook-Signature", "X-Kong-Signature"} {
			if headers[name] != hook.Redacted {
				t.Errorf("%s: %v; want it redacted", name, headers[name])
			}
		}
		if headers["X-Plain"] != "seen" || !strings.HasSuffix(headers["Webhook-Id"].(string), "_"+id) {
			t.Errorf("headers = %v", headers)
		}
		for _, signature := range []string{
			sign.Kong(hook.NewSecret(secret), "sha256", []byte(`{"source":"crud","event":"test"}`)),
		} {
			if strings.Contains(string(got.body), signature) {
				t.Errorf("the answer holds a signature: %s", got.body)
			}
		}
	})
	t.Run("also while two secrets sign", func(t *testing.T) {
		s.must(200, "POST", "/event-hooks/"+id+"/secret/rotate", "")
		headers, _ := requestOf(t, s.must(200, "POST", "/event-hooks/render", `{"hook":`+stored+`}`))
		if headers["Webhook-Signature"] != hook.Redacted || headers["X-Kong-Signature"] != hook.Redacted {
			t.Errorf("headers = %v", headers)
		}
	})
	t.Run("what the request brings itself is shown", func(t *testing.T) {
		headers, _ := requestOf(t, s.must(200, "POST", "/event-hooks/render", `{"hook":{"id":"`+strings.ToUpper(id)+`","source":"crud","handler":"webhook","config":{"url":"https://ok.test/","secret":"mine","headers":{"authorization":"[redacted]","X-Api-Key":"mine"}}}}`))
		if headers["Authorization"] != hook.Redacted || headers["X-Api-Key"] != "mine" || headers["X-Kong-Signature"] == hook.Redacted {
			t.Errorf("headers = %v; want only what was kept redacted", headers)
		}
	})
	t.Run("without the id, or with another's, nothing is kept", func(t *testing.T) {
		for _, other := range []string{"", `"id":"00000000-0000-4000-8000-000000000000",`} {
			got := s.must(400, "POST", "/event-hooks/render", `{"hook":{`+other+`"source":"crud","handler":"webhook","config":{"url":"https://ok.test/","secret":"[redacted]"}}}`)
			want := map[string]any{"hook": map[string]any{"config": map[string]any{"secret": `"[redacted]" keeps what is stored, and nothing is`}}}
			if diff := cmp.Diff(want, got["fields"]); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		}
	})
}

func TestRender_faults(t *testing.T) {
	s := newServer(t)
	for body, want := range map[string]string{
		``:                            `{"hook":"required field missing"}`,
		`{"hook":null}`:               `{"hook":"required field missing"}`,
		`{"hook":[]}`:                 `{"hook":"expected a record"}`,
		`{"hook":{},"data":[],"x":1}`: `{"data":"expected a map","hook":{"handler":"required field missing","source":"required field missing"},"x":"unknown field"}`,
		`{"hook":{"source":"a","handler":"log","id":"x"},"event":""}`:                                                 `{"event":"length must be at least 1","hook":{"id":"expected a valid UUID"}}`,
		`{"hook":{"source":"a","handler":"webhook","config":{"url":"x"}},"source":5,"workspace":"\u0001"}`:            `{"hook":{"config":{"url":"missing host in url"}},"source":"expected a string","workspace":"must not contain control characters"}`,
		`{"hook":{"source":"a","handler":"webhook-custom","config":{"url":"http://x/","method":"POST","body":"{{"}}}`: `{"hook":{"config":{"body":"<any>"}}}`,
		`{"hook":{"source":"a","handler":"log","filter":{"health":"unhealthy"}}}`:                                     `{"hook":{"filter":{"health":"<any>"}}}`,
	} {
		got := s.must(400, "POST", "/event-hooks/render", body)
		fields, err := json.Marshal(got["fields"])
		if err != nil {
			t.Fatal(err)
		}
		head, _, open := strings.Cut(want, "<any>")
		if string(fields) != want && !(open && strings.HasPrefix(string(fields), head)) || got["code"] != 2.0 {
			t.Errorf("%s: fields %s\nwant %s", body, fields, want)
		}
	}
}

func TestRender_data(t *testing.T) {
	s := newServer(t)
	s.must(201, "PUT", "/event-hooks/sources/mine/happened", `{"fields":["a"],"sample":{"a":[1,2.50]}}`)
	data := func(body string) string {
		t.Helper()
		got := s.do("POST", "/event-hooks/render", body)
		var shown struct {
			Event struct{ Data json.RawMessage }
		}
		if err := json.Unmarshal(got.body, &shown); err != nil || got.status != 200 {
			t.Fatalf("%s = %d %s", body, got.status, got.body)
		}
		return string(shown.Event.Data)
	}
	for body, want := range map[string]string{
		`{"hook":{"source":"mine","event":"happened","handler":"log"}}`:                    `{"a":[1,2.50]}`,
		`{"hook":{"source":"mine","handler":"log"},"event":"happened"}`:                    `{"a":[1,2.50]}`,
		`{"hook":{"source":"crud","handler":"log"},"source":"mine","event":"happened"}`:    `{"a":[1,2.50]}`,
		`{"hook":{"source":"mine","event":"happened","handler":"log"},"data":{"b": 1e2 }}`: `{"b":1e2}`,
		`{"hook":{"source":"mine","handler":"log"}}`:                                       `{}`,
		`{"hook":{"source":"unknown","event":"x","handler":"log"},"data":null}`:            `{}`,
	} {
		if got := data(body); got != want {
			t.Errorf("%s: data %s; want %s", body, got, want)
		}
	}
	if got := data(`{"hook":{"source":"balancer","event":"health","handler":"log"}}`); !json.Valid([]byte(got)) || !strings.HasPrefix(got, "{") {
		t.Errorf("data of a built-in event = %s", got)
	}
}

// TestDeliveryDetail_request: what was sent, rendered again.
func TestDeliveryDetail_request(t *testing.T) {
	s := newServer(t)
	const secret = "open-sesame"
	created := s.do("POST", "/event-hooks", `{"source":"crud","handler":"webhook","config":{"url":"https://ok.test/services/`+secret+`?x","secret":"`+secret+`","headers":{"X-Token":"`+secret+`","X-Plain":"seen"}}}`)
	id := created.json(t)["id"].(string)
	d := s.row(id, 0, func(d *hook.Delivery) { d.Attempts = append(d.Attempts, hook.Attempt{AtMS: clock.UnixMilli() + 5000}) })
	path := "/event-hooks/" + id + "/deliveries/" + d.Event.ID
	detail := func(token string) map[string]any {
		t.Helper()
		return s.must(200, "GET", path, "", "Authorization", "Bearer "+token+"-token")
	}

	t.Run("as of the last attempt, by the hook as it is, without secrets", func(t *testing.T) {
		got := detail("admin")
		headers, request := requestOf(t, got)
		want := map[string]any{
			"Content-Type": "application/json", "User-Agent": "eventhooks/1.2.3", "Webhook-Id": d.Event.ID + "_" + id, "Webhook-Timestamp": fmt.Sprint(clock.Unix() + 5),
			"Webhook-Signature": hook.Redacted, "X-Kong-Signature": hook.Redacted, "X-Token": hook.Redacted, "X-Plain": "seen",
		}
		if diff := cmp.Diff(want, headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if request["method"] != "POST" || request["url"] != "https://ok.test/services/"+secret+"?x" || request["body"] != `{"source":"crud","event":"consumers","n":1}` {
			t.Errorf("request = %v", request)
		}
		if got["rendered_with"] != created.header.Get("ETag") || got["request_error"] != nil {
			t.Errorf("rendered_with %v, request_error %v", got["rendered_with"], got["request_error"])
		}
	})
	t.Run("a reader sees no secret at all, not even in a ping", func(t *testing.T) {
		got := s.do("GET", path, "", "Authorization", "Bearer read-token")
		if _, request := requestOf(t, got.json(t)); request["url"] != "https://ok.test/[redacted]" || strings.Contains(string(got.body), secret) {
			t.Errorf("%s", got.body)
		}
		pings, _, err := s.store.ListDeliveries(context.Background(), id, hook.Pending, "", 1, clock.UnixMilli())
		if err != nil || len(pings) != 1 {
			t.Fatal(pings, err)
		}
		got = s.do("GET", "/event-hooks/"+id+"/deliveries/"+pings[0].Event.ID, "", "Authorization", "Bearer read-token")
		_, request := requestOf(t, got.json(t))
		if strings.Contains(string(got.body), secret) || !strings.Contains(fmt.Sprint(request["body"]), `"source":"kong:event_hooks"`) {
			t.Errorf("ping: %s", got.body)
		}
		if admin := s.do("GET", "/event-hooks/"+id+"/deliveries/"+pings[0].Event.ID, ""); !strings.Contains(string(admin.body), "services/"+secret) {
			t.Errorf("an admin's ping: %s", admin.body)
		}
	})
	t.Run("a change of the hook changes it", func(t *testing.T) {
		after := s.do("PATCH", "/event-hooks/"+id, `{"handler":"webhook-custom","config":{"method":"PUT","body":"{{ n }}"}}`)
		got := detail("admin")
		if _, request := requestOf(t, got); request["method"] != "PUT" || request["body"] != "1" || got["rendered_with"] != after.header.Get("ETag") {
			t.Errorf("request = %v, rendered_with %v", request, got["rendered_with"])
		}
	})
	t.Run("a request that cannot be built says why", func(t *testing.T) {
		s.must(200, "PATCH", "/event-hooks/"+id, `{"config":{"headers":{"content-type":"application/json"},"body":"{* n *}{"}}`)
		if got := detail("admin"); got["request"] != nil || got["request_error"] == nil || got["rendered_with"] == nil {
			t.Errorf("request %v, request_error %v, rendered_with %v; want only the request missing, and why", got["request"], got["request_error"], got["rendered_with"])
		}
	})
	t.Run("no handler but those with a URL makes one, and a hook that is gone makes none", func(t *testing.T) {
		s.must(200, "PUT", "/event-hooks/"+id, `{"source":"crud","handler":"log"}`)
		if got := detail("admin"); got["request"] != nil || got["request_error"] != nil || got["rendered_with"] == nil {
			t.Errorf("of a log hook: %v", got)
		}
		s.must(204, "DELETE", "/event-hooks/"+id, "")
		for _, name := range []string{"request", "request_error", "rendered_with"} {
			got := detail("read")
			if v, there := got[name]; v != nil || !there {
				t.Errorf("%s = %v of a hook that is gone; want null", name, v)
			}
		}
	})
	t.Run("an event id that is none is refused", func(t *testing.T) {
		got := s.must(400, "GET", "/event-hooks/"+id+"/deliveries/nonsense", "")
		if diff := cmp.Diff(map[string]any{"event_id": "expected a valid UUID"}, got["fields"]); diff != "" || got["code"] != 1.0 {
			t.Errorf("answer %v", got)
		}
	})
}

func TestDeliveryDetail_whatTheReceiverRepeats(t *testing.T) {
	const path, query, secret, key = "/services/T000-B000", "sig=XXXX", "s3cret-of-the-hook", "k3y-of-the-hook"
	s, _, id := meddled(t)
	s.must(200, "PATCH", "/event-hooks/"+id, `{"config":{"url":"http://ok.test`+path+`?`+query+`","secret":"`+secret+`","headers":{"X-Api-Key":"`+key+`"}}}`)
	d := s.row(id, 0, func(d *hook.Delivery) {
		d.Response = &hook.Response{
			Code:    301,
			Headers: map[string]string{"Location": "https://other.test" + path, "X-You-Sent": key + " to " + path},
			Body:    "POST " + path + "?" + query + " with " + key + " and " + secret + ": moved",
		}
	})
	detail := "/event-hooks/" + id + "/deliveries/" + d.Event.ID
	for _, token := range []string{"admin", "read"} {
		got := string(s.do("GET", detail, "", "Authorization", "Bearer "+token+"-token").body)
		for text, seen := range map[string]bool{path: token == "admin", query: token == "admin", secret: false, key: false, ": moved": true} {
			if strings.Contains(got, text) != seen {
				t.Errorf("the detail, read with scope %s, shows %q: %v; want %v\n%s", token, text, !seen, seen, got)
			}
		}
	}
	s.must(204, "DELETE", "/event-hooks/"+id, "")
	if got := string(s.do("GET", detail, "", "Authorization", "Bearer read-token").body); strings.Contains(got, path) {
		t.Errorf("the detail of a hook that is gone shows a reader its URL's path: %s", got)
	}
}

func TestHook_warningsShowNoSecret(t *testing.T) {
	s, _, id := meddled(t)
	s.must(200, "PATCH", "/event-hooks/"+id, `{"config":{"headers":{"X-Api-Key":"pass{{PART}}word","X-Other":"{{unheard_of}}"}}}`)
	got := string(s.do("PATCH", "/event-hooks/"+id, `{"config":{"headers_format":true}}`).body)
	if strings.Contains(got, "PART: ") || !strings.Contains(got, "unheard_of: ") {
		t.Errorf("warnings of %s; want them about unheard_of only", got)
	}
}
