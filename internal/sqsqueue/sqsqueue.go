// Package sqsqueue is a queue in Amazon SQS: a standard queue, never a FIFO one.
//
// It keeps the promise of package queuetest. SQS counts whole seconds, so every
// time is rounded up to the next one. A message's group makes the queue a fair
// one (MessageGroupId, which standard queues take, too).
package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"eventhooks/internal/hook"
)

// Limits of Receive and Release, as SQS has them.
const (
	maxVisibility = 12 * time.Hour
	maxWait       = 20 * time.Second
)

// inFlight is the number of batches that one Send or DeleteBatch has on their
// way at once.
const inFlight = 8

// Queue is one queue. It is safe for concurrent use.
type Queue struct {
	client *sqs.Client
	url    string
}

// New returns the queue at a URL. The client's own retries are the only ones:
// what fails after them is the caller's to repeat.
func New(client *sqs.Client, url string) *Queue { return &Queue{client: client, url: url} }

// Send puts the messages on the queue. See queuetest.Queue. Messages that SQS
// would refuse are found here, before anything is sent: it fails a whole batch
// for some faults of one entry.
func (q *Queue) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	var f failures
	var good []int
	for i, m := range msgs {
		if err := m.Check(); err != nil {
			f.add(err, i)
			continue
		}
		good = append(good, i)
	}
	inParallel(batches(msgs, good), func(batch []int) { q.sendBatch(ctx, msgs, batch, &f) })
	return f.result("send %d of %d messages: %w", len(msgs))
}

// batches cuts the messages at the given indexes into what one call takes.
func batches(msgs []hook.Message, indexes []int) [][]int {
	var all [][]int
	var batch []int
	bytes := 0
	for _, i := range indexes {
		n := len(msgs[i].Body)
		if len(batch) == hook.MaxBatch || len(batch) > 0 && bytes+n > hook.MaxMessageBytes {
			all, batch, bytes = append(all, batch), nil, 0
		}
		batch, bytes = append(batch, i), bytes+n
	}
	if len(batch) > 0 {
		all = append(all, batch)
	}
	return all
}

func (q *Queue) sendBatch(ctx context.Context, msgs []hook.Message, batch []int, f *failures) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &q.url}
	for n, i := range batch {
		m := &msgs[i]
		e := types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(n)), MessageBody: &m.Body, DelaySeconds: seconds(m.Delay),
		}
		if m.Group != "" {
			e.MessageGroupId = &m.Group
		}
		in.Entries = append(in.Entries, e)
	}
	out, err := q.client.SendMessageBatch(ctx, in)
	if err != nil {
		f.add(err, batch...)
		return
	}
	ok := make([]string, 0, len(batch))
	for _, s := range out.Successful {
		ok = append(ok, aws.ToString(s.Id))
	}
	f.addEntries(batch, ok, out.Failed)
}

// Receive returns up to limit visible messages. See queuetest.Queue. The SDK
// leaves out zeros, and SQS puts the queue's own settings in their place: so the
// least visibility is a second, and with wait 0 the queue's
// ReceiveMessageWaitTimeSeconds counts, 0 unless somebody set it.
func (q *Queue) Receive(ctx context.Context, limit int, visibility, wait time.Duration) ([]hook.Received, error) {
	switch {
	case limit < 1 || limit > hook.MaxBatch:
		return nil, fmt.Errorf("receive %d messages: 1 to %d are allowed", limit, hook.MaxBatch)
	case visibility < 0 || visibility > maxVisibility:
		return nil, fmt.Errorf("receive messages: hide for %s: at most %s are allowed", visibility, maxVisibility)
	case wait < 0 || wait > maxWait:
		return nil, fmt.Errorf("receive messages: wait for %s: at most %s are allowed", wait, maxWait)
	}
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            &q.url,
		MaxNumberOfMessages: int32(limit),
		VisibilityTimeout:   max(1, seconds(visibility)),
		WaitTimeSeconds:     seconds(wait),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount,
			types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameMessageGroupId,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("receive messages: %w", err)
	}
	rs := make([]hook.Received, 0, len(out.Messages))
	for _, m := range out.Messages {
		rs = append(rs, received(m))
	}
	return rs, nil
}

func received(m types.Message) hook.Received {
	r := hook.Received{
		ID:      aws.ToString(m.MessageId),
		Receipt: aws.ToString(m.ReceiptHandle),
		Body:    aws.ToString(m.Body),
		Group:   m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)],
		// A number that SQS left out is the least that it can be.
		Receives: 1,
	}
	if n, err := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]); err == nil {
		r.Receives = n
	}
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		r.SentAt = time.UnixMilli(ms).UTC()
	}
	return r
}

// Delete removes a received message. See queuetest.Queue.
func (q *Queue) Delete(ctx context.Context, receipt string) error {
	if _, err := q.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: &receipt}); err != nil {
		return fmt.Errorf("delete message: %w", err)
	}
	return nil
}

// DeleteBatch removes many received messages. See queuetest.BatchDeleter.
func (q *Queue) DeleteBatch(ctx context.Context, receipts []string) (failed []int, err error) {
	var f failures
	all := make([]int, len(receipts))
	for i := range all {
		all[i] = i
	}
	inParallel(slices.Collect(slices.Chunk(all, hook.MaxBatch)), func(batch []int) {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
		for n, i := range batch {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{
				Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &receipts[i],
			})
		}
		out, err := q.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			f.add(err, batch...)
			return
		}
		ok := make([]string, 0, len(batch))
		for _, s := range out.Successful {
			ok = append(ok, aws.ToString(s.Id))
		}
		f.addEntries(batch, ok, out.Failed)
	})
	return f.result("delete %d of %d messages: %w", len(receipts))
}

// Release makes a received message visible again after delay. See
// queuetest.Queue.
func (q *Queue) Release(ctx context.Context, receipt string, delay time.Duration) error {
	if delay < 0 || delay > maxVisibility {
		return fmt.Errorf("release message: hide for %s: at most %s are allowed", delay, maxVisibility)
	}
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.url, ReceiptHandle: &receipt, VisibilityTimeout: seconds(delay),
	})
	if err != nil {
		return fmt.Errorf("release message: %w", err)
	}
	return nil
}

// seconds rounds up, so that nothing comes early.
func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }

// inParallel calls fn for each batch, for at most inFlight at once, and returns
// when all have returned.
func inParallel(batches [][]int, fn func(batch []int)) {
	if len(batches) == 1 { // nearly always
		fn(batches[0])
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for _, b := range batches {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			fn(b)
		})
	}
	wg.Wait()
}

// failures gathers what failed of a call that was cut into batches.
type failures struct {
	mu      sync.Mutex
	indexes []int
	errs    []error
}

func (f *failures) add(err error, indexes ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.indexes = append(f.indexes, indexes...)
	f.errs = append(f.errs, err)
}

// addEntries adds the entries of a batch that the answer does not name as
// successful: an entry that it does not name at all is not known to be done.
func (f *failures) addEntries(batch []int, ok []string, failed []types.BatchResultErrorEntry) {
	for n, i := range batch {
		id := strconv.Itoa(n)
		if slices.Contains(ok, id) {
			continue
		}
		err := errors.New("the answer does not mention it")
		for _, e := range failed {
			if aws.ToString(e.Id) == id {
				err = fmt.Errorf("%s: %s", aws.ToString(e.Code), aws.ToString(e.Message))
			}
		}
		f.add(err, i)
	}
}

// maxErrors bounds the errors that a result tells: a thousand entries fail for
// one reason.
const maxErrors = 3

func (f *failures) result(format string, of int) ([]int, error) {
	if len(f.indexes) == 0 {
		return nil, nil
	}
	slices.Sort(f.indexes)
	errs := f.errs
	if len(errs) > maxErrors {
		errs = append(errs[:maxErrors:maxErrors], fmt.Errorf("and %d more", len(f.errs)-maxErrors))
	}
	return f.indexes, fmt.Errorf(format, len(f.indexes), of, errors.Join(errs...))
}
