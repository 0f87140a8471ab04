package sqsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/awstest"
	"eventhooks/internal/hook"
	"eventhooks/internal/queuetest"
	"eventhooks/internal/sqsqueue"
)

func TestQueue(t *testing.T) {
	client := awstest.SQS(t)
	queuetest.Run(t, func(t *testing.T, o queuetest.Options) (q, dead queuetest.Queue) {
		if o.MaxReceives == 0 {
			return sqsqueue.New(client, awstest.CreateQueue(t, client, nil)), nil
		}
		deadURL := awstest.CreateQueue(t, client, nil)
		arn := types.QueueAttributeNameQueueArn
		out, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &deadURL, AttributeNames: []types.QueueAttributeName{arn},
		})
		if err != nil {
			t.Fatalf("read the queue's ARN: %v", err)
		}
		url := awstest.CreateQueue(t, client, map[string]string{
			"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, out.Attributes[string(arn)], o.MaxReceives),
		})
		return sqsqueue.New(client, url), sqsqueue.New(client, deadURL)
	})
}

// request is what SQS is sent, of any action.
type request struct {
	Action  string `json:"-"`
	Entries []struct {
		ID            string `json:"Id"`
		Body          string `json:"MessageBody"`
		Group         string `json:"MessageGroupId"`
		Delay         int    `json:"DelaySeconds"`
		ReceiptHandle string
	}
	MaxNumberOfMessages, VisibilityTimeout, WaitTimeSeconds int
	MessageSystemAttributeNames                             []string
}

// fake answers as SQS does when things go wrong, which the stand-in servers do
// not: they know no fault of one entry that the client's own checks let pass.
func fake(t *testing.T, answer func(r request) (status int, body any)) *sqsqueue.Queue {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := request{Action: strings.TrimPrefix(hr.Header.Get("X-Amz-Target"), "AmazonSQS.")}
		b, err := io.ReadAll(hr.Body)
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		status, body := answer(r)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Errorf("write answer: %v", err)
		}
	}))
	t.Cleanup(srv.Close)
	client := sqs.New(sqs.Options{
		Region: awstest.Region, BaseEndpoint: &srv.URL, RetryMaxAttempts: 1,
		DisableMessageChecksumValidation: true, // the fake computes none
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})
	return sqsqueue.New(client, srv.URL+"/000000000000/q")
}

type entry struct {
	ID          string `json:"Id"`
	Code        string `json:",omitempty"`
	Message     string `json:",omitempty"`
	SenderFault bool   `json:",omitempty"`
}

type batchAnswer struct {
	Successful, Failed []entry
}

type fault struct {
	Type    string `json:"__type"`
	Message string `json:"message"`
}

func messages(n int) []hook.Message {
	msgs := make([]hook.Message, n)
	for i := range msgs {
		msgs[i].Body = fmt.Sprint(i)
	}
	return msgs
}

func TestQueue_Send(t *testing.T) {
	t.Run("what failed of a batch is told by its place among all", func(t *testing.T) {
		q := fake(t, func(r request) (int, any) {
			var a batchAnswer
			for _, e := range r.Entries {
				switch e.Body {
				case "3", "17":
					a.Failed = append(a.Failed, entry{ID: e.ID, Code: "InternalError", Message: "try again"})
				case "12": // neither way
				default:
					a.Successful = append(a.Successful, entry{ID: e.ID})
				}
			}
			slices.Reverse(a.Successful) // any order
			return 200, a
		})
		failed, err := q.Send(t.Context(), messages(25))
		if diff := cmp.Diff([]int{3, 12, 17}, failed); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		if err == nil || !strings.Contains(err.Error(), "InternalError") {
			t.Errorf("Send() = %v; want the reason that SQS gave", err)
		}
	})

	t.Run("a batch that fails as a whole takes no other with it", func(t *testing.T) {
		q := fake(t, func(r request) (int, any) {
			var a batchAnswer
			for _, e := range r.Entries {
				if e.Body == "15" {
					return 400, fault{"com.amazonaws.sqs#RequestThrottled", "slow down"}
				}
				a.Successful = append(a.Successful, entry{ID: e.ID})
			}
			return 200, a
		})
		failed, err := q.Send(t.Context(), messages(25))
		if diff := cmp.Diff([]int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, failed); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		if _, ok := errors.AsType[*types.RequestThrottled](err); !ok {
			t.Errorf("Send() = %v; want it to wrap SQS's error", err)
		}
	})

	t.Run("an answer that cannot be read fails the batch", func(t *testing.T) {
		q := fake(t, func(request) (int, any) { return 200, "nonsense" })
		if failed, err := q.Send(t.Context(), messages(2)); len(failed) != 2 || err == nil {
			t.Errorf("Send() = %v, %v; want both and an error", failed, err)
		}
	})

	t.Run("a thousand failures are told in a few words", func(t *testing.T) {
		q := fake(t, func(request) (int, any) { return 200, batchAnswer{} })
		failed, err := q.Send(t.Context(), messages(1000))
		if len(failed) != 1000 || !slices.IsSorted(failed) {
			t.Errorf("%d failed; want all 1000 in order", len(failed))
		}
		if err == nil || len(err.Error()) > 500 {
			t.Errorf("Send() = %v; want a short error", err)
		}
	})

	t.Run("what SQS would refuse is never sent to it", func(t *testing.T) {
		q := fake(t, func(r request) (int, any) {
			t.Errorf("SQS got %v", r)
			return 500, fault{}
		})
		failed, err := q.Send(t.Context(), []hook.Message{{Body: "a\x00"}, {}, {Body: "x", Delay: time.Hour}})
		if len(failed) != 3 || err == nil {
			t.Errorf("Send() = %v, %v; want all three and an error", failed, err)
		}
	})

	t.Run("batches hold at most 10 messages and 1 MiB", func(t *testing.T) {
		var mu sync.Mutex
		var counts []int
		q := fake(t, func(r request) (int, any) {
			var a batchAnswer
			bytes := 0
			for _, e := range r.Entries {
				bytes += len(e.Body)
				a.Successful = append(a.Successful, entry{ID: e.ID})
			}
			if len(r.Entries) > 10 || bytes > 1<<20 {
				t.Errorf("a batch of %d messages, %d bytes", len(r.Entries), bytes)
			}
			mu.Lock()
			defer mu.Unlock()
			counts = append(counts, len(r.Entries))
			return 200, a
		})
		half := hook.Message{Body: strings.Repeat("x", 1<<19)}
		msgs := append(messages(23), half, half, half, hook.Message{Body: half.Body + "x"}, half)
		if failed, err := q.Send(t.Context(), msgs); failed != nil || err != nil {
			t.Errorf("Send() = %v, %v; want nil, nil", failed, err)
		}
		slices.Sort(counts)
		// 10, 10, three small and one half, two halves, one more than half, one half.
		if diff := cmp.Diff([]int{1, 1, 2, 4, 10, 10}, counts); diff != "" {
			t.Errorf("messages of each batch (-want +got):\n%s", diff)
		}
	})

	t.Run("seconds are rounded up, groups are sent where there are any", func(t *testing.T) {
		var got request
		q := fake(t, func(r request) (int, any) {
			got = r
			return 200, batchAnswer{Successful: []entry{{ID: "0"}, {ID: "1"}, {ID: "2"}}}
		})
		_, err := q.Send(t.Context(), []hook.Message{
			{Body: "a"}, {Body: "b", Delay: time.Nanosecond, Group: "g"}, {Body: "c", Delay: 899*time.Second + 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{0, 1, 900} {
			if got := got.Entries[i].Delay; got != want {
				t.Errorf("entry %d has DelaySeconds %d; want %d", i, got, want)
			}
		}
		for i, want := range []string{"", "g", ""} {
			if got := got.Entries[i].Group; got != want {
				t.Errorf("entry %d has MessageGroupId %q; want %q", i, got, want)
			}
		}
	})
}

func TestQueue_Receive(t *testing.T) {
	t.Run("seconds are rounded up, and the attributes asked for", func(t *testing.T) {
		var got request
		q := fake(t, func(r request) (int, any) {
			got = r
			return 200, struct{}{}
		})
		if rs, err := q.Receive(t.Context(), 7, 1500*time.Millisecond, time.Millisecond); len(rs) != 0 || err != nil {
			t.Fatalf("Receive() = %v, %v; want none, nil", rs, err)
		}
		want := request{
			Action: "ReceiveMessage", MaxNumberOfMessages: 7, VisibilityTimeout: 2, WaitTimeSeconds: 1,
			MessageSystemAttributeNames: []string{"ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	})

	t.Run("a visibility of zero is not left to the queue's default", func(t *testing.T) {
		var got request
		q := fake(t, func(r request) (int, any) {
			got = r
			return 200, struct{}{}
		})
		if _, err := q.Receive(t.Context(), 1, 0, 0); err != nil {
			t.Fatal(err)
		}
		if got.VisibilityTimeout != 1 {
			t.Errorf("VisibilityTimeout = %d; want 1", got.VisibilityTimeout)
		}
	})

	t.Run("a message without attributes is taken as received once", func(t *testing.T) {
		q := fake(t, func(request) (int, any) {
			return 200, map[string]any{"Messages": []map[string]any{{"MessageId": "m", "ReceiptHandle": "r", "Body": "b"}}}
		})
		rs, err := q.Receive(t.Context(), 1, time.Minute, 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]hook.Received{{ID: "m", Receipt: "r", Body: "b", Receives: 1}}, rs); diff != "" {
			t.Errorf("received (-want +got):\n%s", diff)
		}
	})
}

func TestQueue_DeleteBatch(t *testing.T) {
	q := fake(t, func(r request) (int, any) {
		var a batchAnswer
		for _, e := range r.Entries {
			if e.ReceiptHandle == "r12" {
				a.Failed = append(a.Failed, entry{ID: e.ID, Code: "ReceiptHandleIsInvalid", SenderFault: true})
				continue
			}
			a.Successful = append(a.Successful, entry{ID: e.ID})
		}
		return 200, a
	})
	var receipts []string
	for i := range 15 {
		receipts = append(receipts, fmt.Sprintf("r%d", i))
	}
	failed, err := q.DeleteBatch(t.Context(), receipts)
	if diff := cmp.Diff([]int{12}, failed); diff != "" || err == nil {
		t.Errorf("DeleteBatch() = %v, %v; want [12] and an error", failed, err)
	}
}
