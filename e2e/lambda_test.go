package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"eventhooks/internal/awstest"
	"eventhooks/internal/hook"
	"eventhooks/internal/lambdatest"
	"eventhooks/internal/sign"
	"eventhooks/internal/stack"
)

// asDeployed are the flags with which the Makefile builds a function.
// forTheTest lets it reach receivers on this machine as well: what no setting
// can do.
var (
	asDeployed = []string{"-trimpath", "-tags=lambda.norpc", "-ldflags=-s -X main.version=e2e"}
	forTheTest = []string{"-trimpath", "-tags=lambda.norpc", "-ldflags=-s -X main.version=e2e -X main.loopback=e2e"}
)

// build builds a function as the Makefile does, but for this machine.
func build(t testing.TB, pkg string, flags []string) string {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0")
	return lambdatest.Build(t, pkg, flags...)
}

// cloud is a deployment: the built functions as processes, tables and queues on
// AWS-compatible servers, and this test in the places of API Gateway, of
// Lambda's pollers and of the schedules.
type cloud struct {
	t         testing.TB
	stack     *stack.Stack
	resources stack.Resources
	functions map[string]*lambdatest.Function
	lambda    *lambdatest.API // with which functions invoke functions
	queues    *sqs.Client
	judge     *judge
	token     string
}

// deploy builds the functions and makes a deployment of them.
func deploy(t testing.TB, name string, flags []string, params map[string]string) *cloud {
	t.Helper()
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	return launch(t, name, binaries(t, flags), params, newJudge())
}

// binaries builds every function of the template, and returns where each is.
func binaries(t testing.TB, flags []string) map[string]string {
	t.Helper()
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]string{}
	for _, f := range s.Functions {
		built[f.Name] = build(t, "eventhooks/functions/"+f.Name, flags)
	}
	return built
}

// launch makes tables and queues of its own and puts the functions on them.
// The judge watches what they do. Each edit may change how a function runs.
func launch(t testing.TB, name string, binaries, params map[string]string, j *judge, edits ...func(*lambdatest.Options)) *cloud {
	t.Helper()
	db, queues := awstest.DynamoDB(t), awstest.SQS(t)
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Create(t.Context(), db, queues, name+"-"+rand.Text()[:8]+"-") // another run leaves its own behind
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, stack: s, resources: r, functions: map[string]*lambdatest.Function{}, queues: queues, judge: j}
	c.lambda = lambdatest.NewAPI(t, func(name string) *lambdatest.Function { return c.functions[name] })
	c.update(binaries, params, edits...)
	return c
}

// update puts new functions with these parameters in the places of those that
// there are, on the same tables and queues.
func (c *cloud) update(binaries, params map[string]string, edits ...func(*lambdatest.Options)) {
	t, j := c.t, c.judge
	t.Helper()
	j.knows(c.stack, c.resources, params)
	for _, f := range c.stack.Functions {
		if old := c.functions[f.Name]; old != nil {
			old.Close()
		}
		env, err := c.stack.Environment(f.Name, c.resources, params)
		if err != nil {
			t.Fatal(err)
		}
		env["AWS_REGION"] = awstest.Region
		endpoint := j.watch(t, f.Name)
		for _, service := range []string{"DYNAMODB", "SQS", "KMS"} {
			env["AWS_ENDPOINT_URL_"+service] = endpoint
		}
		env["AWS_ENDPOINT_URL_LAMBDA"] = j.watchLambda(t, f.Name, c.lambda)
		o := lambdatest.Options{Binary: binaries[f.Name], Name: f.Name, Env: env, Timeout: f.Timeout, MemoryMB: f.MemoryMB}
		for _, edit := range edits {
			edit(&o)
		}
		c.functions[f.Name] = lambdatest.New(t, o)
	}
}

// in returns the same deployment with its failures told to t.
func (c *cloud) in(t testing.TB) *cloud {
	there := *c
	there.t = t
	return &there
}

// invoke hands a function an event and returns its answer.
func (c *cloud) invoke(function string, event any) []byte {
	c.t.Helper()
	raw, ok := event.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(event); err != nil {
			c.t.Fatal(err)
		}
	}
	out, err := c.functions[function].Invoke(c.t.Context(), raw)
	if err != nil {
		c.t.Fatalf("invoke %s: %v", function, err)
	}
	return out
}

// http sends a request through a function, wants the status, and returns the
// answer's JSON. The event is a sample's, with another request in it.
func (c *cloud) http(function, method, path, body string, want int) map[string]any {
	c.t.Helper()
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(sample(c.t, "admin-create-hook.json"), &ev); err != nil {
		c.t.Fatal(err)
	}
	delete(ev.Headers, "kong-admin-token")
	ev.Headers["authorization"] = "Bearer " + c.token
	ev.RawPath, ev.RawQueryString, _ = strings.Cut(path, "?")
	ev.RequestContext.HTTP.Method, ev.RequestContext.HTTP.Path, ev.Body = method, ev.RawPath, body
	return c.answer(function, c.invoke(function, ev), want)
}

func (c *cloud) answer(function string, out []byte, want int) map[string]any {
	c.t.Helper()
	var resp events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(out, &resp); err != nil {
		c.t.Fatalf("answer of %s: %v in %s", function, err, out)
	}
	if resp.StatusCode != want {
		c.t.Fatalf("%s answers %d %s; want %d", function, resp.StatusCode, resp.Body, want)
	}
	body := []byte(resp.Body)
	if resp.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(resp.Body); err != nil {
			c.t.Fatal(err)
		}
	}
	if len(body) == 0 {
		return nil
	}
	return object(c.t, body)
}

// poll is what Lambda does with the queues that invoke deliver, until both are
// empty: batches in, partial failures back, the rest deleted. It returns how
// many messages were handled. Messages that are delayed it leaves.
func (c *cloud) poll() int {
	c.t.Helper()
	deliver, _ := c.stack.Function("deliver")
	handled := 0
	for {
		found := 0
		for _, source := range deliver.Sources {
			queue := c.resources.Queues[source.Queue]
			if msgs := c.receive(queue, source.Batch); len(msgs) > 0 {
				found += len(msgs)
				handled += c.batch(source.Queue, msgs)
			}
		}
		if found == 0 {
			return handled
		}
	}
}

func (c *cloud) receive(queue string, most int) []types.Message {
	c.t.Helper()
	out, err := c.queues.ReceiveMessage(c.t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &queue, MaxNumberOfMessages: int32(most),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return out.Messages
}

// batch hands messages to deliver and deletes those that it does not want
// again.
func (c *cloud) batch(queue string, msgs []types.Message) (handled int) {
	c.t.Helper()
	for _, action := range []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} {
		c.judge.used("deliver", deed{action: action, resource: queue}) // by the event source, with deliver's role
	}
	ev := events.SQSEvent{}
	for _, m := range msgs {
		ev.Records = append(ev.Records, events.SQSMessage{
			MessageId: *m.MessageId, ReceiptHandle: *m.ReceiptHandle, Body: *m.Body, Attributes: m.Attributes,
			EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-west-1:123456789012:" + queue, AWSRegion: "eu-west-1",
		})
	}
	var resp events.SQSEventResponse
	if out := c.invoke("deliver", ev); json.Unmarshal(out, &resp) != nil {
		c.t.Fatalf("deliver answers %s", out)
	}
	url := c.resources.Queues[queue]
	for _, m := range msgs {
		if slices.ContainsFunc(resp.BatchItemFailures, func(f events.SQSBatchItemFailure) bool { return f.ItemIdentifier == *m.MessageId }) {
			continue
		}
		handled++
		if _, err := c.queues.DeleteMessage(c.t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
			c.t.Fatal(err)
		}
	}
	return handled
}

// mint makes the first token as a new user does.
func (c *cloud) mint() {
	c.t.Helper()
	var minted struct {
		Token  string   `json:"token"`
		Scopes []string `json:"scopes"`
	}
	if out := c.invoke("admin", sample(c.t, "admin-create-token.json")); json.Unmarshal(out, &minted) != nil || !strings.HasPrefix(minted.Token, "eh_") {
		c.t.Fatalf("mint answers %s; want a token", out)
	}
	c.token = minted.Token
}

// delivery returns a row of the delivery log.
func (c *cloud) delivery(hookID, eventID string) map[string]any {
	c.t.Helper()
	for _, d := range c.http("admin", "GET", "/event-hooks/"+hookID+"/deliveries", "", http.StatusOK)["data"].([]any) {
		if row := d.(map[string]any); row["event_id"] == eventID {
			return row
		}
	}
	return nil
}

// statuses says how a hook's deliveries differ from n that have the status, ""
// when they do not.
func (c *cloud) statuses(hookID, status string, n int) string {
	c.t.Helper()
	rows := c.http("admin", "GET", "/event-hooks/"+hookID+"/deliveries", "", http.StatusOK)["data"].([]any)
	for _, row := range rows {
		if row.(map[string]any)["status"] != status {
			return fmt.Sprintf("row = %v; want it %s", row, status)
		}
	}
	if len(rows) != n {
		return fmt.Sprintf("%d rows; want %d", len(rows), n)
	}
	return ""
}

// post posts one event through ingest, by the sample, and returns its id.
// header are names and values.
func (c *cloud) post(header ...string) string {
	c.t.Helper()
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(sample(c.t, "ingest-post.json"), &ev); err != nil {
		c.t.Fatal(err)
	}
	ev.Headers["authorization"] = "Bearer " + c.token
	for i := 0; i < len(header); i += 2 {
		ev.Headers[header[i]] = header[i+1]
	}
	accepted := c.answer("ingest", c.invoke("ingest", ev), http.StatusAccepted)["events"].([]any)
	return accepted[0].(map[string]any)["id"].(string)
}

// sample returns a file of events/.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("../events/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The main job by the built functions, from the first token to the receiver.
func TestLambda_anEventGoesAllTheWay(t *testing.T) {
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	built := binaries(t, forTheTest)
	c := launch(t, "way", built, map[string]string{"RetrySchedule": "1s,1s,1s"}, newJudge())
	r := newReceiver(t, http.StatusServiceUnavailable)
	const secret = "correct horse battery staple"

	c.http("admin", "GET", "/health", "", http.StatusOK)
	c.token = "eh_unknown"
	c.http("admin", "GET", "/event-hooks", "", http.StatusUnauthorized)
	c.mint()

	created := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(
		`{"source":"balancer","event":"health","handler":"webhook","snooze":60,"config":{"url":%q,"secret":%q}}`, r.URL+"/hook", secret), http.StatusCreated)
	hookID := created["id"].(string)
	if c.http("admin", "GET", "/event-hooks", "", http.StatusOK)["data"].([]any)[0].(map[string]any)["id"] != hookID {
		t.Error("the list does not have the hook")
	}
	c.http("admin", "GET", "/event-hooks/"+hookID, "", http.StatusOK)
	c.http("admin", "GET", "/event-hooks/sources", "", http.StatusOK)

	eventID := c.post()
	if n := c.poll(); n == 0 {
		t.Fatal("no message reached deliver")
	}
	first := r.next(t)
	row := c.delivery(hookID, eventID)
	if row["status"] != "pending" {
		t.Errorf("row after a failed attempt = %v; want pending", row)
	}
	// The receiver is back; the wake-up's delay passes.
	eventually(t, func() string {
		c.poll()
		if row = c.delivery(hookID, eventID); row["status"] != "delivered" {
			return fmt.Sprintf("row = %v; want delivered", row)
		}
		return ""
	})
	second := r.next(t)
	r.nothing(t)

	if attempts := row["attempts"].([]any); len(attempts) != 2 {
		t.Errorf("attempts = %v; want two", attempts)
	}
	for i, req := range []request{first, second} {
		if err := sign.Verify(hook.NewSecret(secret), req.header, req.body, time.Now()); err != nil {
			t.Errorf("attempt %d: %v", i+1, err)
		}
		got := object(t, req.body)
		if got["source"] != "balancer" || got["event"] != "health" || got["health"] != "unhealthy" || got["port"] != json.Number("3000") {
			t.Errorf("attempt %d: body = %s; want the event, flat", i+1, req.body)
		}
		if id := req.header.Get("webhook-id"); id != eventID+"_"+hookID {
			t.Errorf("attempt %d: webhook-id = %q; want %s_%s", i+1, id, eventID, hookID)
		}
		if agent := req.header.Get("User-Agent"); agent != "eventhooks/e2e" {
			t.Errorf("attempt %d: User-Agent = %q; want eventhooks/e2e", i+1, agent)
		}
	}

	t.Run("the same event again is snoozed", func(t *testing.T) {
		c := c.in(t)
		c.post()
		c.poll()
		r.nothing(t)
	})
	t.Run("a post that is repeated under its key is accepted once", func(t *testing.T) {
		c := c.in(t)
		if a, b := c.post("idempotency-key", "k1"), c.post("idempotency-key", "k1"); a != b {
			t.Errorf("event ids = %s, %s; want one", a, b)
		}
		c.poll()
	})
	t.Run("a source that was registered meanwhile is known", func(t *testing.T) {
		c := c.in(t)
		c.http("admin", "PUT", "/event-hooks/sources/http-log/log", `{"fields":["request"]}`, http.StatusCreated)
		c.http("ingest", "POST", "/events/http-log/log", `[{"request":1},{"request":2}]`, http.StatusAccepted)
		c.poll()
		c.http("admin", "DELETE", "/event-hooks/sources/http-log/log", "", http.StatusNoContent)
	})
	t.Run("events of a message that came before come one by one", func(t *testing.T) {
		c := c.in(t)
		c.http("ingest", "POST", "/events", `[{"source":"crud","event":"admins","data":{"n":1}},{"source":"crud","event":"admins","data":{"n":2}}]`, http.StatusAccepted)
		url := c.resources.Queues["EventsQueue"]
		for _, m := range c.receive(url, 5) { // and its function dies
			if _, err := c.queues.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
		if n := c.poll(); n != 3 {
			t.Errorf("%d messages were handled; want the one of two events, and two of one", n)
		}
	})
	t.Run("a token that is used says so", func(t *testing.T) {
		c := c.in(t)
		gateway := c.http("admin", "POST", "/tokens", `{"name":"gateway","scopes":["ingest"],"sources":["crud"]}`, http.StatusCreated)
		lastUsed := func(c *cloud) json.Number {
			for _, row := range c.http("admin", "GET", "/tokens", "", http.StatusOK)["data"].([]any) {
				if row := row.(map[string]any); row["id"] == gateway["id"] {
					at, _ := row["last_used_at"].(json.Number)
					return at
				}
			}
			return ""
		}
		if at := lastUsed(c); at != "" {
			t.Errorf("a new token was used at %s", at)
		}
		used := *c
		used.token = gateway["token"].(string)
		before := time.Now().Unix()
		used.http("ingest", "POST", "/events/balancer/health", `{}`, http.StatusForbidden) // and that is all of it
		used.http("ingest", "POST", "/events/balancer/health", `{}`, http.StatusForbidden) // by then it is noted
		if at, _ := lastUsed(c).Int64(); at < before || at > time.Now().Unix() {
			t.Errorf("last used at %d; want %d or a little later", at, before)
		}
	})
	t.Run("a token that was revoked is none", func(t *testing.T) {
		c := c.in(t)
		second := c.http("admin", "POST", "/tokens", `{"name":"second","scopes":["read"]}`, http.StatusCreated)
		c.http("admin", "GET", "/tokens", "", http.StatusOK)
		c.http("admin", "DELETE", "/tokens/"+second["id"].(string), "", http.StatusNoContent)
		c.token = second["token"].(string)
		c.http("admin", "GET", "/event-hooks", "", http.StatusUnauthorized)
	})
	t.Run("the delivery log is read by status, and one by one", func(t *testing.T) {
		c := c.in(t)
		if rows := c.http("admin", "GET", "/event-hooks/"+hookID+"/deliveries?status=pending", "", http.StatusOK)["data"].([]any); len(rows) != 0 {
			t.Errorf("pending rows = %v; want none", rows)
		}
		c.http("admin", "GET", "/event-hooks/"+hookID+"/deliveries/"+eventID, "", http.StatusOK)
	})
	t.Run("a message that cannot be read comes again, the others of its batch do not", func(t *testing.T) {
		c := c.in(t)
		url := c.resources.Queues["EventsQueue"]
		body := "not a message of ours"
		if _, err := c.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
		other := c.post()
		if n := c.poll(); n != 1 {
			t.Errorf("%d messages were handled; want the other one, %s", n, other)
		}
	})
	t.Run("a sweep finds nothing to do", func(t *testing.T) {
		c := c.in(t)
		c.invoke("deliver", sample(t, "deliver-sweep.json"))
	})
	t.Run("a hook whose receiver is gone is disabled, and who asked for it is told", func(t *testing.T) {
		c := c.in(t)
		gone, operator := newReceiver(t, http.StatusGone), newReceiver(t)
		c.http("admin", "PUT", "/event-hooks/sources/shop/closed", `{"fields":["item"]}`, http.StatusCreated)
		c.http("admin", "POST", "/event-hooks", fmt.Sprintf(`{"source":"eventhooks","event":"hook-disabled","handler":"webhook-custom","config":{"method":"POST","url":%q,"headers":{"Content-Type":"application/json"},"payload":{"text":"{{reason}}"}}}`, operator.URL), http.StatusCreated)
		id := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(`{"source":"shop","event":"closed","handler":"webhook","config":{"url":%q}}`, gone.URL), http.StatusCreated)["id"].(string)
		eventually(t, func() string { // its ping
			c.poll()
			return c.statuses(id, "delivered", 1)
		})
		c.http("ingest", "POST", "/events/shop/closed", `{"item":"tea"}`, http.StatusAccepted)
		c.poll()
		if h := c.http("admin", "GET", "/event-hooks/"+id, "", http.StatusOK); h["enabled"] != false || h["disabled_reason"] != "the receiver answered 410 Gone" {
			t.Errorf("hook = %v; want it disabled, and why", h)
		}
		if got := object(t, operator.next(t).body); got["text"] != "the receiver answered 410 Gone" {
			t.Errorf("told %v; want the reason", got)
		}
	})
	t.Run("a breaker opens, closes and releases what it held back", func(t *testing.T) {
		c := c.in(t)
		down := newReceiver(t, slices.Repeat([]int{http.StatusInternalServerError}, 10)...)
		c.http("admin", "PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
		id := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(`{"source":"shop","event":"sold","handler":"webhook-custom","config":{"method":"POST","url":%q,"payload":{"item":"{{item}}"}}}`, down.URL), http.StatusCreated)["id"].(string)
		c.http("ingest", "POST", "/events/shop/sold", "["+strings.TrimSuffix(strings.Repeat(`{"item":"tea"},`, 10), ",")+"]", http.StatusAccepted)
		c.poll()
		held := c.http("ingest", "POST", "/events/shop/sold", `{"item":"coffee"}`, http.StatusAccepted)["events"].([]any)[0].(map[string]any)["id"].(string)
		c.poll()
		if row := c.delivery(id, held); row["status"] != "pending" || row["reason"] != hook.ReasonBreaker {
			t.Fatalf("row = %v; want it held back by the breaker", row)
		}
		c.invoke("deliver", sample(t, "deliver-sweep.json"))
		c.http("admin", "POST", "/event-hooks/"+id+"/deliveries/"+held+"/redeliver", "", http.StatusAccepted)
		eventually(t, func() string { // the receiver is back; what waits is woken
			c.poll()
			c.breakersAreDue()
			c.invoke("deliver", sample(t, "deliver-sweep.json"))
			return c.statuses(id, "delivered", 11)
		})
	})
	t.Run("a target that is down is told of", func(t *testing.T) {
		c := c.in(t)
		dead := deadAddress(t)
		c.http("admin", "PATCH", "/event-hooks/"+hookID, `{"snooze":null}`, http.StatusOK)
		c.http("admin", "POST", "/upstreams", `{"name":"web","healthchecks":{"active":{"type":"tcp","unhealthy":{"tcp_failures":1,"interval":60}}}}`, http.StatusCreated)
		c.http("admin", "POST", "/upstreams/web/targets", fmt.Sprintf(`{"target":%q}`, dead), http.StatusCreated)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
		c.poll()
		got := object(t, r.next(t).body)
		if ip, port, _ := net.SplitHostPort(dead); got["health"] != "unhealthy" || got["ip"] != ip || fmt.Sprint(got["port"]) != port {
			t.Errorf("told of %v; want %s unhealthy", got, dead)
		}
		c.http("admin", "GET", "/upstreams/web/health", "", http.StatusOK)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json")) // nothing is due, but somebody looks

		c.http("admin", "PUT", "/upstreams/web/targets/"+dead+"/"+dead+"/healthy", "", http.StatusNoContent)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
		c.poll()
		if got := object(t, r.next(t).body); got["health"] != "healthy" {
			t.Errorf("told of %v; want it healthy, as ordered", got)
		}
	})
	t.Run("what is deleted is gone", func(t *testing.T) {
		c := c.in(t)
		c.http("admin", "DELETE", "/event-hooks/"+hookID, "", http.StatusNoContent)
		c.post()
		c.poll()
		r.nothing(t)
		c.http("admin", "DELETE", "/upstreams/web", "", http.StatusNoContent)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
	})
	converse(t, ours, built, c.judge) // the rest of the API
	t.Run("more targets than a function is meant for are divided among several", func(t *testing.T) {
		divide(t, launch(t, "parts", built, nil, c.judge))
	})
	c.judge.denied(t)
	c.judge.unused(t)
}

// deadAddress returns an address on this machine where nobody listens.
func deadAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Built as for Lambda, no setting opens the loopback network.
func TestLambda_asDeployedReachesNothingOnItsOwnMachine(t *testing.T) {
	c := deploy(t, "strict", asDeployed, map[string]string{"AllowedPrivateCidrs": "127.0.0.0/8,10.0.0.0/8"})
	called := make(chan struct{}, 10)
	r := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	defer r.Close()
	c.mint()
	hookID := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(
		`{"source":"balancer","event":"health","handler":"webhook","config":{"url":%q}}`, r.URL), http.StatusCreated)["id"].(string)
	eventID := c.post()
	c.poll()
	if row := c.delivery(hookID, eventID); row["status"] != "failed" || row["reason"] != hook.ReasonBlocked {
		t.Errorf("row = %v; want failed, blocked", row)
	}
	c.http("admin", "GET", "/event-hooks/"+hookID+"/ping", "", http.StatusOK)
	select {
	case <-called:
		t.Error("the receiver was called")
	default:
	}
}

// A function that lacks settings says which, all of them, and does not start.
func TestLambda_missingSettings(t *testing.T) {
	awstest.DynamoDB(t) // builds are slow; this belongs to the tests that do
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	optional := []string{"RETRY_SCHEDULE", "DELIVERY_LOG", "UNKNOWN_EVENTS", "ALLOW_PRIVATE_CIDRS", "CONNECTIVITY_CHECK", "KMS_KEY_ARN"}
	for _, f := range s.Functions {
		t.Run(f.Name, func(t *testing.T) {
			fn := lambdatest.New(t, lambdatest.Options{
				Binary: build(t, "eventhooks/functions/"+f.Name, asDeployed), Name: f.Name,
				Env: map[string]string{"ALLOW_PRIVATE_CIDRS": "10.0.0.0/8"},
			})
			if _, err := fn.Start(t.Context()); !errors.Is(err, lambdatest.ErrExit) {
				t.Errorf("start: %v; want that the process ends", err)
			}
			for setting := range f.Environment {
				if told := strings.Contains(fn.Output(), setting+" is not set"); told == slices.Contains(optional, setting) {
					t.Errorf("output tells of %s: %v\n%s", setting, told, fn.Output())
				}
			}
		})
	}
}

// judge stands between the functions and the AWS-compatible servers and notes
// what each function does, to compare it with what its role allows.
type judge struct {
	allowed map[string][]stack.Permission // by function
	names   map[string]string             // of tables, queues and functions: logical ids; of a KMS key: its parameter
	// tap is told of each call when it was answered; nil: nobody. It is set
	// before the first call, and may be called concurrently.
	tap func(wireCall)
	// noKMS has KMS refuse everything.
	noKMS atomic.Bool

	mu   sync.Mutex
	seen map[string]map[deed]bool
}

// deed is what a function did, as IAM sees it.
type deed struct {
	action, resource string // as of stack.Permission
	// partition of a table; of one that has an id, what comes before it: "probe#".
	// "" where there is none.
	partition string
}

func (d deed) allowed(p stack.Permission) bool { return p.Allows(d.action, d.resource, d.partition) }

// wireCall is one call of a function to AWS, as it went over the wire.
type wireCall struct {
	function, operation string // "deliver", "PutItem"
	request             []byte // its body
	status              int
	answered            int // bytes of the answer's body
	began, ended        time.Time
}

// answerNoter notes what is answered on its way through.
type answerNoter struct {
	http.ResponseWriter
	call *wireCall
}

func (w answerNoter) WriteHeader(status int) {
	w.call.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w answerNoter) Write(b []byte) (int, error) {
	w.call.answered += len(b)
	return w.ResponseWriter.Write(b)
}

func newJudge() *judge {
	return &judge{allowed: map[string][]stack.Permission{}, names: map[string]string{}, seen: map[string]map[deed]bool{}}
}

// knows tells the judge of a deployment. What only some deployments may do is
// allowed from the first on that may.
func (j *judge) knows(s *stack.Stack, r stack.Resources, params map[string]string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := params["KmsKeyArn"]
	if key != "" {
		j.names[key] = "KmsKeyArn"
	}
	for _, f := range s.Functions {
		j.names[f.Name] = f.ID
		for _, p := range f.Allowed {
			given := p.If == "" || (p.If == "HasKmsKey" && key != "")
			if given && !slices.ContainsFunc(j.allowed[f.Name], func(q stack.Permission) bool { return reflect.DeepEqual(p, q) }) {
				j.allowed[f.Name] = append(j.allowed[f.Name], p)
			}
		}
		if j.seen[f.Name] == nil {
			j.seen[f.Name] = map[deed]bool{}
		}
	}
	for id, name := range r.Tables {
		j.names[name] = id
	}
	for id, url := range r.Queues {
		j.names[url] = id
	}
}

// watch returns the endpoint for one function.
func (j *judge) watch(t testing.TB, function string) string {
	t.Helper()
	proxies := map[string]*httputil.ReverseProxy{}
	for service, variable := range map[string]string{
		"DynamoDB_20120810": awstest.DynamoDBEndpoint, "AmazonSQS": awstest.SQSEndpoint, "TrentService": awstest.KMSEndpoint,
	} {
		u, err := url.Parse(os.Getenv(variable))
		if err != nil {
			t.Fatal(err)
		}
		proxies[service] = &httputil.ReverseProxy{
			Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(u) },
			ErrorLog: log.New(io.Discard, "", 0), // of callers that were killed
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		body, err := io.ReadAll(r.Body)
		if err != nil || proxies[service] == nil {
			http.Error(w, "not a call to DynamoDB, SQS or KMS", http.StatusBadRequest)
			return
		}
		if service == "TrentService" && j.noKMS.Load() {
			http.Error(w, `{"__type":"AccessDeniedException","message":"the key is out of reach"}`, http.StatusBadRequest)
			return
		}
		j.note(t, function, operation, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if j.tap == nil {
			proxies[service].ServeHTTP(w, r)
			return
		}
		call := wireCall{function: function, operation: operation, request: body, began: time.Now()}
		proxies[service].ServeHTTP(answerNoter{w, &call}, r)
		call.ended = time.Now()
		j.tap(call)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// watchLambda returns the endpoint of Lambda's own API for one function.
func (j *judge) watchLambda(t testing.TB, function string, api http.Handler) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutSuffix(r.URL.Path, "/invocations"); ok {
			j.used(function, deed{action: "lambda:InvokeFunction", resource: j.name(path.Base(name))})
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// part is what a call to DynamoDB, or a part of one, says of what it is about.
type part struct {
	TableName, IndexName      string
	Item, Key                 attributes
	Keys                      []attributes // of a table in a BatchGetItem
	ExpressionAttributeValues attributes   // of a Query
}

// attributes are some of an item's, those of a key among them.
type attributes map[string]struct{ S string }

// partitions are those of a table that a part is about.
func (p part) partitions() []string {
	var all []string
	for _, a := range append(p.Keys, p.Item, p.Key, p.ExpressionAttributeValues) {
		for _, name := range []string{"pk", "kind", ":pk", ":kind"} {
			if before, _, id := strings.Cut(a[name].S, "#"); id {
				all = append(all, before+"#")
			} else if before != "" {
				all = append(all, before)
			}
		}
	}
	return all
}

// note notes a call under the actions that IAM would ask for.
func (j *judge) note(t testing.TB, function, operation string, body []byte) {
	var call struct {
		part
		QueueUrl      string
		KeyId         string
		RequestItems  map[string]part
		TransactItems []map[string]part
	}
	if err := json.Unmarshal(body, &call); err != nil {
		t.Errorf("%s calls %s with %s: %v", function, operation, body, err)
		return
	}
	on := func(action string, of part) {
		d := deed{action: "dynamodb:" + action, resource: j.name(of.TableName)}
		if of.IndexName != "" {
			d.resource += "/index/" + of.IndexName
		}
		partitions := of.partitions()
		if len(partitions) == 0 { // then only a permission for all of them will do
			partitions = []string{""}
		}
		for _, d.partition = range partitions {
			j.used(function, d)
		}
	}
	switch {
	case call.QueueUrl != "":
		j.used(function, deed{action: "sqs:" + strings.TrimSuffix(operation, "Batch"), resource: j.name(call.QueueUrl)})
	case call.KeyId != "":
		j.used(function, deed{action: "kms:" + operation, resource: j.name(call.KeyId)})
	case call.RequestItems != nil:
		for name, of := range call.RequestItems {
			of.TableName = name
			on(operation, of)
		}
	case call.TransactItems != nil:
		for _, one := range call.TransactItems {
			for kind, of := range one { // Put, Update, Delete, Get, ConditionCheck
				on(kind+"Item", of)
			}
		}
	default:
		on(operation, call.part)
	}
}

// name returns the logical id of a table, of a queue's URL or of a function, or
// the parameter that names a KMS key.
func (j *judge) name(of string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.names[of]
}

func (j *judge) used(function string, d deed) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen[function][d] = true
}

// denied fails the test for each call that a role does not allow.
func (j *judge) denied(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, function := range slices.Sorted(maps.Keys(j.seen)) {
		for d := range j.seen[function] {
			if !slices.ContainsFunc(j.allowed[function], d.allowed) {
				t.Errorf("%s's role does not allow %s on %s %q, which it needs", function, d.action, d.resource, d.partition)
			}
		}
	}
}

// unused fails the test for each action, and for each partition of a table, that
// a role allows and nobody needed: then either the role is too wide, or this test
// leaves something out. Of services it looks at those alone, such as "kms", or
// at all when there are none.
func (j *judge) unused(t *testing.T, services ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, function := range slices.Sorted(maps.Keys(j.allowed)) {
		needed := func(p stack.Permission) bool {
			for d := range j.seen[function] {
				if d.allowed(p) {
					return true
				}
			}
			service, _, _ := strings.Cut(p.Action, ":")
			return service == "logs" || (len(services) > 0 && !slices.Contains(services, service))
		}
		all := j.allowed[function]
		for _, p := range all {
			if !needed(p) {
				t.Errorf("%s's role allows %s on %s %v, which nothing here needed", function, p.Action, p.Resource, p.Keys)
			}
			for _, key := range p.Keys {
				if !slices.ContainsFunc(all, func(q stack.Permission) bool {
					same := q.Resource == p.Resource && slices.Equal(q.Keys, p.Keys) // the statement's other actions
					return same && needed(stack.Permission{Action: q.Action, Resource: q.Resource, Keys: []string{key}})
				}) {
					t.Errorf("%s's role names %s of %s, which nothing here needed", function, key, p.Resource)
				}
			}
		}
	}
}
