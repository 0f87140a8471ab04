package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"eventhooks/internal/lambdatest"
	"eventhooks/internal/message"
)

// fleet works a deployment as Lambda does: pollers hand the queues' messages to
// deliver, several batches at once, and a schedule sweeps. Its functions can be
// killed at any time, and it knows which invocation had which events then.
type fleet struct {
	*cloud
	witness *witness

	mu      sync.Mutex
	resumed *sync.Cond
	paused  bool // no invocation may begin
	flight  int
	served  []*invocation // all that deliver was invoked for
	errs    []error
}

// invocation is one batch, or one sweep, in deliver's hands.
type invocation struct {
	events       []string // ids of the events whose deliveries it may attempt
	began, ended time.Time
	killed       bool
	timedOut     bool // and so killed by Lambda, not by a blow
}

func newFleet(c *cloud, w *witness) *fleet {
	f := &fleet{cloud: c, witness: w}
	f.resumed = sync.NewCond(&f.mu)
	return f
}

// gone reports whether an invocation ended with its process: by a blow, or, on a
// machine with too much to do, by Lambda, because its time was up.
func gone(err error) bool {
	return errors.Is(err, lambdatest.ErrExit) || errors.Is(err, lambdatest.ErrTimeout)
}

// serve invokes a function.
func (f *fleet) serve(ctx context.Context, function string, event []byte, ids []string) ([]byte, error) {
	f.mu.Lock()
	for f.paused {
		f.resumed.Wait()
	}
	f.flight++
	inv := &invocation{events: ids, began: time.Now()}
	if function == "deliver" {
		f.served = append(f.served, inv)
	}
	f.mu.Unlock()

	out, err := f.functions[function].Invoke(ctx, event)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.flight--
	inv.ended, inv.killed, inv.timedOut = time.Now(), gone(err), errors.Is(err, lambdatest.ErrTimeout)
	return out, err
}

// strike kills the processes of the functions while they work.
func (f *fleet) strike(functions ...string) killing {
	f.mu.Lock()
	f.paused = true
	f.mu.Unlock()
	kill := func() {
		for _, name := range functions {
			f.functions[name].Kill()
		}
		// What found its process dead before that took the event began again in
		// a new one.
		for f.flying(functions) {
			for _, name := range functions {
				f.functions[name].Kill()
			}
			pause(f.t.Context(), time.Millisecond) // until the next one begins: bounded by the functions' timeouts
		}
	}
	var k killing
	if slices.Contains(functions, "deliver") {
		k = f.witness.strike(f.t, kill)
	} else {
		k.began = time.Now()
		kill()
		k.ended = time.Now()
	}
	f.mu.Lock()
	f.paused = false
	f.resumed.Broadcast()
	f.mu.Unlock()
	return k
}

// flying reports whether invocations of the functions are under way.
func (f *fleet) flying(functions []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(functions, "deliver") {
		return false
	}
	return slices.ContainsFunc(f.served, func(i *invocation) bool { return i.ended.IsZero() })
}

func (f *fleet) fault(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// fly starts the pollers and the schedule; they end with ctx, and then the
// returned function returns.
func (f *fleet) fly(ctx context.Context, pollers int, sweepEvery time.Duration) (wait func()) {
	var wg sync.WaitGroup
	deliver, _ := f.stack.Function("deliver")
	for _, source := range deliver.Sources {
		for range pollers {
			wg.Go(func() {
				for ctx.Err() == nil {
					f.pollOnce(ctx, source.Queue, source.Batch)
				}
			})
		}
	}
	wg.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := f.serve(ctx, "deliver", []byte(`{"sweep":true}`), nil); err != nil && !gone(err) && ctx.Err() == nil {
					f.fault(fmt.Errorf("sweep: %w", err))
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return wg.Wait
}

// pollOnce hands one batch of a queue to deliver. The messages of a killed
// invocation come again at once: their time out of sight passes.
func (f *fleet) pollOnce(ctx context.Context, queue string, most int) {
	url := f.resources.Queues[queue]
	out, err := f.queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &url, MaxNumberOfMessages: int32(most),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil || len(out.Messages) == 0 {
		if err != nil && ctx.Err() == nil {
			f.fault(fmt.Errorf("receive: %w", err))
		}
		pause(ctx, 50*time.Millisecond) // between two looks into an empty queue
		return
	}
	ev, ids := sqsEvent(queue, out.Messages)
	// A batch that was begun is finished, whatever becomes of ctx.
	ctx = context.WithoutCancel(ctx)
	answer, err := f.serve(ctx, "deliver", ev, ids)
	var again func(id string) bool
	var resp events.SQSEventResponse
	switch {
	case gone(err):
		again = func(string) bool { return true }
	case err != nil:
		f.fault(fmt.Errorf("deliver: %w", err))
		return
	case json.Unmarshal(answer, &resp) != nil:
		f.fault(fmt.Errorf("deliver answers %s", answer))
		return
	default:
		again = func(id string) bool {
			return slices.ContainsFunc(resp.BatchItemFailures, func(b events.SQSBatchItemFailure) bool { return b.ItemIdentifier == id })
		}
	}
	for _, m := range out.Messages {
		if again(*m.MessageId) {
			_, err = f.queues.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle})
		} else {
			_, err = f.queues.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle})
		}
		if err != nil {
			f.fault(fmt.Errorf("settle message: %w", err))
		}
	}
}

// sqsEvent makes the event with which Lambda hands messages over, and says which
// events they are about.
func sqsEvent(queue string, msgs []types.Message) (raw []byte, ids []string) {
	var ev events.SQSEvent
	for _, m := range msgs {
		ev.Records = append(ev.Records, events.SQSMessage{
			MessageId: *m.MessageId, ReceiptHandle: *m.ReceiptHandle, Body: *m.Body, Attributes: m.Attributes,
			EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-west-1:123456789012:" + queue, AWSRegion: "eu-west-1",
		})
		body, err := message.Decode(*m.Body)
		switch {
		case err != nil:
		case body.Wake != nil:
			ids = append(ids, body.Wake.EventID)
		case body.Record != nil:
			ids = append(ids, body.Record.Event.ID)
		}
		for _, e := range body.Events {
			ids = append(ids, e.ID)
		}
	}
	raw, _ = json.Marshal(ev)
	return raw, ids
}

// postEvent makes the event with which API Gateway hands a post to ingest.
func (c *cloud) postEvent(path, body string) []byte {
	c.t.Helper()
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(sample(c.t, "ingest-post.json"), &ev); err != nil {
		c.t.Fatal(err)
	}
	ev.Headers["authorization"] = "Bearer " + c.token
	ev.RawPath, ev.RequestContext.HTTP.Path, ev.Body = path, path, body
	raw, err := json.Marshal(ev)
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

// acceptedIDs reads ingest's answer: the ids of the events, nil unless they were
// accepted.
func acceptedIDs(answer []byte) (ids []string) {
	var resp events.APIGatewayV2HTTPResponse
	var body struct{ Events []struct{ ID string } }
	if json.Unmarshal(answer, &resp) != nil || resp.StatusCode != http.StatusAccepted || json.Unmarshal([]byte(resp.Body), &body) != nil {
		return nil
	}
	for _, e := range body.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

// builtOnce builds a function once for all tests that ask for it.
func builtOnce(t testing.TB, name string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if file := builds.files[name]; file != "" {
		return file
	}
	dir, err := builtDir()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name, "bootstrap")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(build(t, "eventhooks/functions/"+name, forTheTest), file); err != nil {
		t.Fatal(err)
	}
	if builds.files == nil {
		builds.files = map[string]string{}
	}
	builds.files[name] = file
	return file
}

var builds struct {
	sync.Mutex
	files map[string]string
}

// allBuilt returns the functions that take part in a delivery.
func allBuilt(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"admin", "ingest", "deliver"} {
		files[name] = builtOnce(t, name)
	}
	return files
}
