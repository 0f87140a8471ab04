package dynamostore

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"eventhooks/internal/awstest"
	"eventhooks/internal/hook"
)

// operation returns the name of the operation that a request asks for.
func operation(r *http.Request) string {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return op
}

// quick makes the SDK's own retries follow one another at once.
func quick(o *dynamodb.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
}

// wire stands between a client and the server under test: it counts requests,
// can lose answers, and can let something happen before a request.
type wire struct {
	mu     sync.Mutex
	seen   []string          // operations, in their order
	lose   string            // the operation whose next answer is lost after it took effect
	lost   int               // how many were
	before map[string]func() // by operation: called once, before the next request
	read   int               // items that queries have looked at
}

func (w *wire) Do(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	first := w.before[operation(r)]
	delete(w.before, operation(r))
	w.mu.Unlock()
	if first != nil {
		first()
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, operation(r))
	if err == nil && operation(r) == "Query" {
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		answer.Body = io.NopCloser(bytes.NewReader(body))
		var out struct{ ScannedCount int }
		_ = json.Unmarshal(body, &out)
		w.read += out.ScannedCount
	}
	if err != nil || operation(r) != w.lose {
		return answer, err
	}
	w.lose = ""
	w.lost++
	answer.Body.Close()
	return &http.Response{
		StatusCode: http.StatusInternalServerError, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}`)),
	}, nil
}

// requests returns the operations asked for since the last call.
func (w *wire) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// itemsRead returns how many items queries have looked at since the last call.
func (w *wire) itemsRead() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.read
	w.read = 0
	return n
}

// loseNext makes the next answer to the operation be lost.
func (w *wire) loseNext(op string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose, w.lost = op, 0
}

// beforeNext makes f happen before the next request for the operation.
func (w *wire) beforeNext(op string, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before[op] = f
}

func (w *wire) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// wired returns a store on fresh tables of the server under test, and the wire
// to it.
func wired(t *testing.T) (*Store, *wire) {
	t.Helper()
	w := &wire{before: map[string]func(){}}
	client := awstest.DynamoDB(t, quick, func(o *dynamodb.Options) {
		o.HTTPClient = w
		o.DisableValidateResponseChecksum = true // a lost answer has none
	})
	config, state := awstest.CreateTables(t, client)
	w.requests()
	return New(client, config, state), w
}

// scripted returns a store whose every request is answered by a function: a
// status, and what becomes the JSON of the answer.
func scripted(answer func(op string, in map[string]any) (int, any)) *Store {
	client := dynamodb.New(dynamodb.Options{
		Region: awstest.Region, BaseEndpoint: aws.String("http://dynamodb.example.test"),
		Credentials: aws.AnonymousCredentials{}, DisableValidateResponseChecksum: true,
		HTTPClient: doFunc(func(r *http.Request) (*http.Response, error) {
			var in map[string]any
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				return nil, err
			}
			status, out := answer(operation(r), in)
			body, err := json.Marshal(out)
			if err != nil {
				return nil, err
			}
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
		}),
	}, quick)
	return New(client, "config", "state")
}

type doFunc func(*http.Request) (*http.Response, error)

func (f doFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// exception is an answer that reports an error.
func exception(kind string, more map[string]any) (int, any) {
	out := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + kind, "message": "as scripted"}
	for k, v := range more {
		out[k] = v
	}
	return http.StatusBadRequest, out
}

// cancelled is an answer that reports a transaction as cancelled, with a code
// for each write.
func cancelled(codes ...string) (int, any) {
	reasons := []any{}
	for _, c := range codes {
		reasons = append(reasons, map[string]any{"Code": c})
	}
	return exception("TransactionCanceledException", map[string]any{"CancellationReasons": reasons})
}

func wantRequests(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s made requests %v; want %v", what, got, want)
	}
}

// nowMS is the present of tests that need none.
const nowMS = int64(1_795_284_000_000)

// pendingRow returns a row as a first failure leaves it.
func pendingRow(eventID string) hook.Delivery {
	ev := sample()
	ev.ID = eventID
	return hook.Delivery{
		HookID: "3f0d2a6c-6a0b-4f7e-8d1b-0c6c8f0d2a6c", Event: ev, Gen: 7, Status: hook.Pending, Run: 1, Attempt: 1, Seq: 1,
		CreatedMS: nowMS, DeadlineMS: nowMS + 5*24*3600*1000, DueMS: nowMS + 5000, WakeMS: nowMS + 125_000,
		Attempts: []hook.Attempt{{AtMS: nowMS, TookMS: 12, Code: 500, Error: "status 500", IP: "192.0.2.7"}},
	}
}
