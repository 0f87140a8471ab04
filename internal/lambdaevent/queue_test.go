package lambdaevent_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

func quiet(t *testing.T) {
	t.Helper()
	old := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(old) })
}

func noSweep(context.Context) error { return errors.New("swept") }

func noDeliver(context.Context, []hook.Received) []string { panic("delivered") }

func TestDeliver(t *testing.T) {
	msgs := []hook.Received{
		{ID: "m1", Receipt: "r1", Body: `{"v":1}`, Receives: 1, SentAt: time.UnixMilli(1763755200123).UTC()},
		{ID: "m2", Receipt: "r2", Body: `{"v":1,"x":"ü"}`, Group: "hook-1", Receives: 7, SentAt: time.UnixMilli(1763755200999).UTC()},
	}
	t.Run("messages arrive whole, and those that failed are named", func(t *testing.T) {
		raw, err := json.Marshal(lambdaevent.SQSEvent(msgs, "arn:aws:sqs:eu-west-1:123456789012:events"))
		if err != nil {
			t.Fatal(err)
		}
		var got []hook.Received
		out, err := lambdaevent.Deliver(func(_ context.Context, in []hook.Received) []string {
			got = in
			return []string{"m2"}
		}, noSweep)(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(msgs, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
		want := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{{ItemIdentifier: "m2"}}}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	})
	t.Run("no failure is an empty list, not null", func(t *testing.T) {
		raw, err := json.Marshal(lambdaevent.SQSEvent(msgs, ""))
		if err != nil {
			t.Fatal(err)
		}
		out, err := lambdaevent.Deliver(func(context.Context, []hook.Received) []string { return nil }, noSweep)(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(out); string(b) != `{"batchItemFailures":[]}` {
			t.Errorf("answer = %s; want an empty list", b)
		}
	})
	t.Run("a count that cannot be read is a first receive", func(t *testing.T) {
		const raw = `{"Records":[{"messageId":"m","eventSource":"aws:sqs","body":"b","attributes":{"ApproximateReceiveCount":"many"}}]}`
		_, err := lambdaevent.Deliver(func(_ context.Context, in []hook.Received) []string {
			if want := (hook.Received{ID: "m", Body: "b", Receives: 1}); in[0] != want {
				t.Errorf("message = %+v; want %+v", in[0], want)
			}
			return nil
		}, noSweep)(t.Context(), json.RawMessage(raw))
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("the schedule sweeps, and a failed sweep is an error", func(t *testing.T) {
		swept := 0
		sweep := func(context.Context) error { swept++; return nil }
		if _, err := lambdaevent.Deliver(noDeliver, sweep)(t.Context(), readSample(t, "deliver-sweep.json")); err != nil || swept != 1 {
			t.Errorf("sweep = %v, %d times; want once", err, swept)
		}
		if _, err := lambdaevent.Deliver(noDeliver, noSweep)(t.Context(), readSample(t, "deliver-sweep.json")); err == nil {
			t.Error("a failed sweep is no error; want one")
		}
	})
	t.Run("any other event is an error, so that nothing is taken off a queue unread", func(t *testing.T) {
		for _, raw := range []string{
			`{}`, `[]`, `null`, `{"Records":[]}`, `{"sweep":false}`, `{"sweep":"yes"}`, `{`,
			`{"Records":[{"eventSource":"aws:kinesis","messageId":"1","body":""}]}`,
			`{"Records":[{"eventSource":"aws:sqs","body":"no id"}]}`,
		} {
			if _, err := lambdaevent.Deliver(noDeliver, noSweep)(t.Context(), json.RawMessage(raw)); err == nil {
				t.Errorf("%s: no error; want one", raw)
			}
		}
	})
	t.Run("a panic is the invocation's error", func(t *testing.T) {
		quiet(t)
		raw, _ := json.Marshal(lambdaevent.SQSEvent(msgs, ""))
		if _, err := lambdaevent.Deliver(noDeliver, noSweep)(t.Context(), raw); err == nil {
			t.Error("no error; want one")
		}
	})
}

func TestSQSEvent(t *testing.T) {
	ev := lambdaevent.SQSEvent([]hook.Received{{ID: "m", Body: "Message Body", Receives: 2, SentAt: time.UnixMilli(1520621625029)}},
		"arn:aws:sqs:us-west-2:123456789012:SQSQueue")
	want := events.SQSMessage{
		MessageId: "m", Body: "Message Body", Md5OfBody: "77a3cf88eba293be44f5fd5c61835a43",
		Attributes:        map[string]string{"ApproximateReceiveCount": "2", "SentTimestamp": "1520621625029"},
		MessageAttributes: map[string]events.SQSMessageAttribute{},
		EventSource:       "aws:sqs", EventSourceARN: "arn:aws:sqs:us-west-2:123456789012:SQSQueue", AWSRegion: "us-west-2",
	}
	if diff := cmp.Diff(want, ev.Records[0]); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestAdmin(t *testing.T) {
	noMint := func(context.Context, json.RawMessage) (any, error) { panic("minted") }
	noHTTP := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("served") })
	noSeal := func(context.Context, string) (int, bool, error) { panic("sealed") }

	t.Run("an HTTP event is served", func(t *testing.T) {
		out, err := lambdaevent.Admin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if r.Method != "POST" || r.URL.Path != "/event-hooks" || !json.Valid(b) || r.Header.Get("Kong-Admin-Token") == "" {
				t.Errorf("request = %s %s %s; want the sample's", r.Method, r.URL.Path, b)
			}
			w.WriteHeader(http.StatusCreated)
		}), noMint, noSeal)(t.Context(), readSample(t, "admin-create-hook.json"))
		if resp, ok := out.(events.APIGatewayV2HTTPResponse); err != nil || !ok || resp.StatusCode != 201 {
			t.Errorf("answer = %+v, %v; want a 201", out, err)
		}
	})
	t.Run("a direct invoke mints a token", func(t *testing.T) {
		type minted struct {
			Token string `json:"token"`
		}
		out, err := lambdaevent.Admin(noHTTP, func(_ context.Context, create json.RawMessage) (any, error) {
			var c struct{ Name string }
			if err := json.Unmarshal(create, &c); err != nil || c.Name == "" {
				t.Errorf("create = %s, %v; want an object with a name", create, err)
			}
			return minted{"eh_x"}, nil
		}, noSeal)(t.Context(), readSample(t, "admin-create-token.json"))
		if err != nil || out != (minted{"eh_x"}) {
			t.Errorf("answer = %+v, %v; want the token", out, err)
		}
	})
	t.Run("an HTTP client cannot reach the minting", func(t *testing.T) {
		served := false
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })
		ev := request("POST", "/create_token")
		ev.Body = `{"create_token":{"name":"x","scopes":["admin"]},"seal":{"key":"none"}}`
		ev.Headers["create_token"] = "{}"
		ev.RawQueryString, ev.QueryStringParameters = "create_token={}", map[string]string{"create_token": "{}"}
		raw, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lambdaevent.Admin(h, noMint, noSeal)(t.Context(), raw); err != nil || !served {
			t.Errorf("served = %v, %v; want true", served, err)
		}
		// Even both at once is an HTTP request.
		both := strings.Replace(string(raw), "{", `{"create_token":{},"seal":{"key":"none"},`, 1)
		if _, err := lambdaevent.Admin(h, noMint, noSeal)(t.Context(), json.RawMessage(both)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a direct invoke seals", func(t *testing.T) {
		var asked []string
		fail := errors.New("KMS does not answer")
		seal := lambdaevent.Admin(noHTTP, noMint, func(_ context.Context, key string) (int, bool, error) {
			asked = append(asked, key)
			if key == "" {
				return 3, false, fail
			}
			return 12, true, nil
		})
		out, err := seal(t.Context(), readSample(t, "admin-seal.json"))
		if raw, _ := json.Marshal(out); err != nil || string(raw) != `{"written":12,"more":true}` {
			t.Errorf("answer = %s, %v; want how many were written, and that there are more", raw, err)
		}
		if _, err := seal(t.Context(), json.RawMessage(`{"seal":{}}`)); !errors.Is(err, fail) {
			t.Errorf("error = %v; want %v", err, fail)
		}
		if diff := cmp.Diff([]string{"current", ""}, asked); diff != "" {
			t.Errorf("keys asked for (-want +got):\n%s", diff)
		}
		if out, err := lambdaevent.Admin(noHTTP, noMint, nil)(t.Context(), readSample(t, "admin-seal.json")); err == nil {
			t.Errorf("where nothing is sealed: %v; want an error", out)
		}
	})
	t.Run("any other event is an error", func(t *testing.T) {
		for _, raw := range []string{`{}`, `null`, `[]`, `{"create_token":null}`, `{"seal":null}`, `{"seal":"new"}`, `{"requestContext":{}}`, `{"Records":[]}`} {
			if out, err := lambdaevent.Admin(noHTTP, noMint, noSeal)(t.Context(), json.RawMessage(raw)); err == nil {
				t.Errorf("%s = %v; want an error", raw, out)
			}
		}
	})
	t.Run("a panic is the invocation's error", func(t *testing.T) {
		quiet(t)
		if _, err := lambdaevent.Admin(noHTTP, noMint, noSeal)(t.Context(), readSample(t, "admin-create-token.json")); err == nil {
			t.Error("no error; want one")
		}
	})
}

// No event, however odd, makes a handler panic: Lambda would end the process.
func FuzzHandlers(f *testing.F) {
	for _, name := range []string{"ingest-post.json", "admin-create-hook.json", "admin-create-token.json", "admin-seal.json", "deliver-sqs.json", "deliver-sweep.json", "healthprobe-schedule.json", "healthprobe-part.json"} {
		raw, err := os.ReadFile("../../events/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"version":"2.0","routeKey":"GET /a/{b}","rawPath":"a","requestContext":{"stage":"s","http":{"method":"GET"}}}`))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	admin := lambdaevent.Admin(mux, func(_ context.Context, create json.RawMessage) (any, error) { return create, nil },
		func(context.Context, string) (int, bool, error) { return 0, false, nil })
	deliver := lambdaevent.Deliver(func(_ context.Context, msgs []hook.Received) (failed []string) {
		for _, m := range msgs {
			failed = append(failed, m.ID)
		}
		return failed
	}, func(context.Context) error { return nil })
	run := lambdaevent.Probe(func(context.Context, hook.UpstreamRange) error { return nil })
	probe := func(ctx context.Context, raw json.RawMessage) (any, error) { return nil, run(ctx, raw) }
	f.Fuzz(func(t *testing.T, raw []byte) {
		for name, handle := range map[string]func(context.Context, json.RawMessage) (any, error){"admin": admin, "deliver": deliver, "probe": probe} {
			out, err := handle(t.Context(), raw)
			if err != nil {
				if strings.Contains(err.Error(), "panic") {
					t.Errorf("%s(%q) = %v", name, raw, err)
				}
				continue
			}
			if resp, ok := out.(events.APIGatewayV2HTTPResponse); ok && resp.StatusCode == http.StatusInternalServerError {
				t.Errorf("%s(%q) = %+v; want no panic", name, raw, resp)
			}
			if _, err := json.Marshal(out); err != nil {
				t.Errorf("%s(%q) = %v, which is not JSON: %v", name, raw, out, err)
			}
		}
	})
}
