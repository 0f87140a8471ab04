package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/awstest"
	"eventhooks/internal/hook"
	"eventhooks/internal/lambdatest"
	"eventhooks/internal/sign"
)

// Secrets of hooks and upstreams, by the built functions: in the clear, sealed,
// under another key, while KMS is away, and in the clear again.
func TestLambda_secretsAreSealed(t *testing.T) {
	key := awstest.CreateKMSKey(t)
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	built := binaries(t, forTheTest)
	c := launch(t, "sealed", built, nil, newJudge())
	r := newReceiver(t)
	// Each is one that no reader of a table may see.
	const secret, bearer, path, header = "whsec_Y29ycmVjdCBob3JzZQ==", "Bearer t0p-s3cr3t", "/services/T000/B000/XXXX", "probe-k3y"
	known := []string{secret, bearer, path, header}
	c.mint()

	create := func(c *cloud, source string) string {
		c.t.Helper()
		return c.http("admin", "POST", "/event-hooks", fmt.Sprintf(
			`{"source":%q,"handler":"webhook","config":{"url":%q,"secret":%q,"headers":{"Authorization":%q}}}`, source, r.URL+path, secret, bearer), http.StatusCreated)["id"].(string)
	}
	// told posts an event and wants it told of, signed, wherever the secret came from.
	told := func(c *cloud) {
		c.t.Helper()
		c.post()
		c.poll()
		req := r.next(t)
		if err := sign.Verify(hook.NewSecret(secret), req.header, req.body, time.Now()); err != nil || req.header.Get("Authorization") != bearer {
			c.t.Errorf("request = %v, %v; want it signed, with its header", req.header, err)
		}
		r.nothing(t)
	}
	keyed := map[string]string{"KmsKeyArn": key}

	first := create(c, "balancer")
	c.http("admin", "POST", "/upstreams", fmt.Sprintf(`{"name":"web","healthchecks":{"active":{"headers":{"x-key":[%q]}}}}`, header), http.StatusCreated)
	c.http("admin", "POST", "/upstreams/web/targets", `{"target":"127.0.0.1:1"}`, http.StatusCreated)
	told(c)
	for _, word := range known {
		if !strings.Contains(c.stored(), word) {
			t.Fatalf("%q is not found where it is in the clear: this test sees nothing", word)
		}
	}
	if n := c.calls("kms:"); n != nil {
		t.Errorf("without a key functions did %v", n)
	}

	t.Run("what is in the clear goes on being read, and is sealed when it is written", func(t *testing.T) {
		c.update(built, keyed)
		c := c.in(t)
		told(c)
		c.http("admin", "PATCH", "/event-hooks/"+first, `{}`, http.StatusOK)
		told(c)
		if text := c.stored(); strings.Contains(text, secret) || strings.Contains(text, bearer) || !strings.Contains(text, header) {
			t.Error("the hook is not sealed, or the upstream is, which nobody wrote")
		}
	})
	t.Run("a call seals all of it, and no reader of a table sees a secret", func(t *testing.T) {
		c := c.in(t)
		c.reseal("current", 1) // the upstream; the hook is sealed already
		create(c, "crud")
		c.hides(known)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
		told(c)
	})
	t.Run("while KMS is away nothing is lost", func(t *testing.T) {
		c := c.in(t)
		for _, f := range c.functions {
			f.Kill() // the next event starts a process, which asks KMS
		}
		c.judge.noKMS.Store(true)
		c.post()
		url := c.resources.Queues["EventsQueue"]
		msgs := c.receive(url, 5)
		if n := c.batch("EventsQueue", msgs); n != 0 || len(msgs) == 0 {
			t.Errorf("%d of %d messages were handled; want none", n, len(msgs))
		}
		c.http("admin", "GET", "/event-hooks", "", http.StatusInternalServerError)
		_, err := c.functions["healthprobe"].Invoke(t.Context(), sample(t, "healthprobe-schedule.json"))
		if _, failed := errors.AsType[*lambdatest.FunctionError](err); !failed {
			t.Errorf("healthprobe: %v; want an error", err)
		}
		for _, name := range []string{"admin", "deliver", "healthprobe"} {
			if out := c.functions[name].Output(); !strings.Contains(out, "AccessDeniedException: the key is out of reach") {
				t.Errorf("%s does not say what is wrong:\n%s", name, out)
			}
		}
		r.nothing(t)

		c.judge.noKMS.Store(false)
		for _, m := range msgs { // their time comes
			if _, err := c.queues.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, func() string {
			if c.poll() == 0 {
				return "the message does not come again"
			}
			return ""
		})
		r.next(t)
		c.http("admin", "GET", "/event-hooks", "", http.StatusOK)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
	})
	t.Run("under a new key", func(t *testing.T) {
		c := c.in(t)
		c.reseal("new", 3)
		c.reseal("current", 0)
		c.hides(known)
		told(c)
	})
	t.Run("deliver seals what it writes", func(t *testing.T) {
		c := c.in(t)
		gone := newReceiver(t, http.StatusGone)
		c.http("admin", "PUT", "/event-hooks/sources/shop/closed", `{"fields":["item"]}`, http.StatusCreated)
		id := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(`{"source":"shop","event":"closed","handler":"webhook","config":{"url":%q,"secret":%q}}`, gone.URL+path, secret), http.StatusCreated)["id"].(string)
		c.poll() // its ping
		c.http("ingest", "POST", "/events/shop/closed", `{"item":"tea"}`, http.StatusAccepted)
		c.poll()
		if h := c.http("admin", "GET", "/event-hooks/"+id, "", http.StatusOK); h["enabled"] != false {
			t.Errorf("hook = %v; want it disabled", h)
		}
		c.hides(known)
		c.http("admin", "DELETE", "/event-hooks/"+id, "", http.StatusNoContent)
	})
	t.Run("without its key everything says which setting is missing", func(t *testing.T) {
		before := c.calls("kms:")
		c.update(built, nil)
		c := c.in(t)
		c.http("admin", "GET", "/event-hooks", "", http.StatusInternalServerError)
		c.http("admin", "GET", "/upstreams", "", http.StatusInternalServerError)
		c.post()
		if msgs := c.receive(c.resources.Queues["EventsQueue"], 5); c.batch("EventsQueue", msgs) != 0 {
			t.Error("deliver handles a message without knowing its hooks")
		}
		for _, name := range []string{"admin", "deliver"} {
			if out := c.functions[name].Output(); !strings.Contains(out, "KMS_KEY_ARN") {
				t.Errorf("%s does not say what is missing:\n%s", name, out)
			}
		}
		if after := c.calls("kms:"); !slices.Equal(before, after) {
			t.Errorf("functions without a key did %v; before %v", after, before)
		}
		r.nothing(t)
	})
	t.Run("what was stored in the clear again needs no key", func(t *testing.T) {
		c.update(built, keyed)
		c := c.in(t)
		c.reseal("none", 3)
		create(c, "crud") // in the clear from now on
		c.update(built, nil)
		c.http("admin", "GET", "/event-hooks", "", http.StatusOK)
		told(c)
		c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
	})
	for name, f := range c.functions {
		for _, word := range known {
			if strings.Contains(f.Output(), word) {
				t.Errorf("%s writes %q", name, word)
			}
		}
	}
	c.judge.denied(t)
	c.judge.unused(t, "kms")
}

// reseal invokes admin as docs/operations.md says, and wants so many documents
// written.
func (c *cloud) reseal(key string, want int) {
	c.t.Helper()
	var out struct {
		Written int
		More    bool
	}
	raw := c.invoke("admin", map[string]any{"seal": map[string]any{"key": key}})
	if err := json.Unmarshal(raw, &out); err != nil || out.Written != want || out.More {
		c.t.Errorf("seal under %s = %s, %v; want %d written", key, raw, err, want)
	}
}

// calls returns what the functions did of a service.
func (c *cloud) calls(service string) []string {
	c.judge.mu.Lock()
	defer c.judge.mu.Unlock()
	var did []string
	for function, deeds := range c.judge.seen {
		for d := range deeds {
			if strings.HasPrefix(d.action, service) {
				did = append(did, function+" "+d.action)
			}
		}
	}
	slices.Sort(did)
	return did
}

// hides wants that nothing which the tables hold contains one of the words.
func (c *cloud) hides(words []string) {
	c.t.Helper()
	text := c.stored()
	for _, word := range words {
		if strings.Contains(text, word) {
			c.t.Errorf("a reader of the tables sees %q", word)
		}
	}
}

// stored is everything that the tables hold, text and bytes as they are.
func (c *cloud) stored() string {
	c.t.Helper()
	db := awstest.DynamoDB(c.t)
	var b strings.Builder
	for _, table := range c.resources.Tables {
		pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{TableName: &table})
		for pages.HasMorePages() {
			page, err := pages.NextPage(c.t.Context())
			if err != nil {
				c.t.Fatal(err)
			}
			for _, item := range page.Items {
				for name, v := range item {
					switch v := v.(type) {
					case *types.AttributeValueMemberS:
						fmt.Fprintln(&b, name, v.Value)
					case *types.AttributeValueMemberB:
						fmt.Fprintln(&b, name, string(v.Value))
					case *types.AttributeValueMemberN, *types.AttributeValueMemberBOOL:
					default:
						c.t.Fatalf("attribute %s is a %T: this test does not look into it", name, v)
					}
				}
			}
		}
	}
	return b.String()
}
