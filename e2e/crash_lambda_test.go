package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"eventhooks/internal/awstest"
	"eventhooks/internal/lambdatest"
)

// TestLambda_killedFunctionsLoseNothing kills the built functions at random
// moments, under load with a flaky receiver, and starts them again on the same
// tables and queues: ingest, deliver, or both at once, with all that they have
// in flight. It plays Lambda's pollers and the schedule.
//
// Every accepted event must arrive and be on record as delivered (or failed,
// after five crashed claims). And what arrives twice must be explained by a
// kill: the first arrival was the work of an invocation that was killed, and
// its success had not been written when the blow fell. Both are exact: each
// delivery belongs to one invocation at a time, no invocation begins while a
// blow falls, and the receiver has read all that the dead have sent before it
// ends; the writes are seen on the wire.
//
// What it cannot do: place a blow between two given instructions. Where it
// falls is chance, so a hole that is a few microseconds wide may need many
// kills to show (the seed tells the plan of blows, not the schedule of
// processes). internal/deliver enumerates those places one by one.
func TestLambda_killedFunctionsLoseNothing(t *testing.T) {
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	kills := killCount(t, 6, os.Getenv("EVENTHOOKS_KILLS"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d kills", seed, kills)
	// The servers become slow as their tables grow: they are new ones every so
	// often.
	var all toll
	for round := uint64(0); kills > 0 && !t.Failed(); round++ {
		n := min(kills, 20)
		t.Run(fmt.Sprintf("%d kills", n), func(t *testing.T) { all.add(killFunctions(t, n, seed+round)) })
		kills -= n
	}
	t.Logf("%d kills that ended %d invocations of deliver (%d more ran out of time), %d posts refused; %d accepted, %d ended failed; %d arrived again",
		all.kills, all.crashed, all.late, all.refused, all.accepted, all.failed, all.twice)
	if all.crashed == 0 && !t.Failed() {
		t.Error("no blow met an invocation: nothing was tried")
	}
}

// toll is what kills did.
type toll struct{ kills, crashed, late, refused, accepted, failed, twice int }

func (a *toll) add(b toll) {
	a.kills += b.kills
	a.crashed += b.crashed
	a.late += b.late
	a.refused += b.refused
	a.accepted += b.accepted
	a.failed += b.failed
	a.twice += b.twice
}

func killFunctions(t *testing.T, kills int, seed uint64) toll {
	chance := rand.New(rand.NewPCG(seed, 0))
	j, recorded := newJudge(), &successes{at: map[string]time.Time{}}
	j.tap = recorded.note
	c := launch(t, "kill", allBuilt(t), map[string]string{"RetrySchedule": strings.Repeat("1s,", 19) + "1s"}, j, func(o *lambdatest.Options) {
		if o.Name == "deliver" {
			// A claim ends with its invocation's time: short, so that claims of
			// the dead are soon free. It must fit the hook's timeout and a margin
			// of 5 s.
			o.Timeout = 8 * time.Second
		}
	})
	r := newWitness(t, seed)
	f := newFleet(c, r)
	c.mint()
	c.http("admin", "PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	c.http("admin", "POST", "/event-hooks",
		`{"source":"shop","event":"sold","handler":"webhook","config":{"timeout":1,"url":"`+r.url+`"}}`, http.StatusCreated)

	ctx, stop := context.WithCancel(t.Context())
	landed := f.fly(ctx, 2, time.Second)
	var work sync.WaitGroup
	defer func() { stop(); work.Wait(); landed() }()

	// Two clients post, but not much faster than events are delivered.
	var mu sync.Mutex
	var accepted []string
	var refused atomic.Int64
	posting, quit := context.WithCancel(ctx)
	defer quit()
	for client := range 2 {
		work.Go(func() {
			for n := 0; posting.Err() == nil; n++ {
				mu.Lock()
				behind := len(accepted) - r.arrived()
				mu.Unlock()
				if behind > 90 {
					pause(posting, 5*time.Millisecond) // the load's pace
					continue
				}
				body := fmt.Sprintf(`[{"item":"%d-%d-a"},{"item":"%d-%d-b"},{"item":"%d-%d-c"}]`, client, n, client, n, client, n)
				out, err := f.serve(ctx, "ingest", f.postEvent("/events/shop/sold", body), nil)
				ids := acceptedIDs(out)
				if err != nil || ids == nil {
					refused.Add(1) // ingest was killed, or could not
					continue
				}
				mu.Lock()
				accepted = append(accepted, ids...)
				mu.Unlock()
			}
		})
	}

	var blows []killing
	for len(blows) < kills {
		for range 5 + chance.IntN(40) {
			<-r.seen
		}
		at := time.NewTimer(time.Duration(chance.IntN(20_000)) * time.Microsecond)
		<-at.C
		victims := [][]string{{"deliver"}, {"deliver"}, {"ingest"}, {"deliver", "ingest"}}[chance.IntN(4)]
		blows = append(blows, f.strike(victims...))
	}
	quit()
	r.heal()
	// The waits that only time ends: the sweep looks for a wake-up that was never
	// sent two minutes later, and after fifteen for one of its own.
	deadline := time.Now().Add(2 * patience)
	var ended map[string]string
	for {
		var pending []string
		ended, pending = c.timePasses()
		mu.Lock()
		open := slices.DeleteFunc(slices.Clone(accepted), func(id string) bool { return ended[id] == "delivered" || ended[id] == "failed" })
		mu.Unlock()
		if len(pending) == 0 && len(open) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d accepted events %d have not ended (seed %d), at %d; %d deliveries are pending:\n%s",
				len(accepted), len(open), seed, time.Now().UnixMilli(), len(pending), strings.Join(pending, "\n"))
		}
		pause(ctx, 200*time.Millisecond) // a look at other processes, until the deadline above
	}
	stop()
	work.Wait()
	landed()
	for _, err := range f.errs {
		t.Error(err)
	}
	failed := 0
	for _, id := range accepted {
		switch arrived := len(r.accepted(id)) > 0; {
		case ended[id] == "failed":
			failed++
		case ended[id] != "delivered" || !arrived:
			t.Errorf("event %s is %q on record, and arrived: %v (seed %d)", id, ended[id], arrived, seed)
		}
	}
	for _, queue := range []string{"EventsDeadLetterQueue", "RetryDeadLetterQueue"} {
		if n := c.depth(queue); n != "0" {
			t.Errorf("%s messages in %s; want none", n, queue)
		}
	}
	twice, crashed, late := 0, 0, 0
	for _, inv := range f.served {
		switch {
		case inv.timedOut:
			late++
		case inv.killed:
			crashed++
		}
	}
	for _, id := range r.events() {
		arrivals := r.accepted(id)
		for i := 1; i < len(arrivals); i++ {
			twice++
			if why := f.unexplained(id, arrivals[i-1], arrivals[i], blows, recorded); why != "" {
				t.Errorf("event %s arrived at %v and again at %v: %s (seed %d)", id, arrivals[i-1], arrivals[i], why, seed)
			}
		}
	}
	return toll{len(blows), crashed, late, int(refused.Load()), len(accepted), failed, twice}
}

// unexplained says why no kill explains that an event was sent at first and
// again at second; "" when one does.
func (f *fleet) unexplained(event string, first, second time.Time, blows []killing, recorded *successes) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := slices.IndexFunc(f.served, func(i *invocation) bool {
		return i.killed && slices.Contains(i.events, event) && i.began.Before(first)
	})
	if n < 0 {
		return "no invocation that had it was killed"
	}
	if slices.ContainsFunc(f.served, func(i *invocation) bool {
		return i.timedOut && slices.Contains(i.events, event) && i.began.Before(first) && second.After(i.ended)
	}) {
		return "" // Lambda killed it
	}
	for _, k := range blows {
		if first.After(k.ended) || second.Before(k.ended) {
			continue
		}
		was := slices.ContainsFunc(f.served, func(i *invocation) bool {
			return i.killed && slices.Contains(i.events, event) && i.began.Before(first) && i.ended.After(k.began) && !i.ended.After(k.ended)
		})
		if !was {
			continue // this blow met others
		}
		if at, ok := recorded.of(event); ok && at.Before(k.began) {
			return fmt.Sprintf("its success was on record at %v, before the kill of %v", at, k.began)
		}
		return ""
	}
	return "no invocation that was killed in between had sent it"
}

// successes are the writes of delivered rows that DynamoDB answered. One whose
// writer was killed before its answer came is not among them.
type successes struct {
	mu sync.Mutex
	at map[string]time.Time // the first, by event
}

// note watches deliver's writes.
func (s *successes) note(call wireCall) {
	if call.operation != "PutItem" || call.status != http.StatusOK {
		return
	}
	var put struct {
		Item map[string]struct{ S string }
	}
	if json.Unmarshal(call.request, &put) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if event := put.Item["sk"].S; put.Item["status"].S == "delivered" && s.at[event].IsZero() {
		s.at[event] = call.ended
	}
}

func (s *successes) of(event string) (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok = s.at[event]
	return at, ok
}

// timePasses lets what only waits for its time wake at the next sweep: pending
// rows that are due, and that nobody has a claim on. It returns what is on record
// of each event, and the rows that are pending.
func (c *cloud) timePasses() (status map[string]string, pending []string) {
	c.t.Helper()
	db, table := awstest.DynamoDB(c.t), c.resources.Tables["StateTable"]
	now := time.Now().UnixMilli()
	names := map[string]string{"#s": "status"}
	pages := dynamodb.NewScanPaginator(db, &dynamodb.ScanInput{
		TableName: &table, ConsistentRead: aws.Bool(true), ExpressionAttributeNames: names,
		ProjectionExpression: aws.String("pk, sk, #s, seq, tries, nudges, due_ms, lease_ms, wake_at"),
	})
	number := func(v types.AttributeValue) int64 {
		n, _ := v.(*types.AttributeValueMemberN)
		if n == nil {
			return 0
		}
		i, _ := strconv.ParseInt(n.Value, 10, 64)
		return i
	}
	text := func(v types.AttributeValue) string {
		s, _ := v.(*types.AttributeValueMemberS)
		if s == nil {
			return ""
		}
		return s.Value
	}
	status = map[string]string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, it := range page.Items {
			if !strings.HasPrefix(text(it["pk"]), "delivery#") {
				continue
			}
			status[text(it["sk"])] = text(it["status"])
			if text(it["status"]) != "pending" {
				continue
			}
			pending = append(pending, fmt.Sprintf("%s seq %d tries %d nudges %d due %d lease %d wake %d", text(it["sk"]), number(it["seq"]),
				number(it["tries"]), number(it["nudges"]), number(it["due_ms"]), number(it["lease_ms"]), number(it["wake_at"])))
			if number(it["due_ms"]) > now || number(it["lease_ms"]) > now || number(it["wake_at"]) <= now {
				continue
			}
			// Whoever has taken the row meanwhile keeps it: the write fails then.
			_, _ = db.UpdateItem(c.t.Context(), &dynamodb.UpdateItemInput{
				TableName: &table, Key: map[string]types.AttributeValue{"pk": it["pk"], "sk": it["sk"]},
				UpdateExpression:         aws.String("SET wake_at = :now"),
				ConditionExpression:      aws.String("#s = :pending AND seq = :seq AND wake_at = :read"),
				ExpressionAttributeNames: names,
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":pending": &types.AttributeValueMemberS{Value: "pending"}, ":seq": it["seq"], ":read": it["wake_at"],
					":now": &types.AttributeValueMemberN{Value: strconv.FormatInt(now, 10)},
				},
			})
		}
	}
	return status, pending
}

// breakersAreDue lets half a minute pass for breakers: the next sweep looks at
// them.
func (c *cloud) breakersAreDue() {
	c.t.Helper()
	db, table := awstest.DynamoDB(c.t), c.resources.Tables["StateTable"]
	due := map[string]types.AttributeValue{":past": &types.AttributeValueMemberN{Value: "1"}}
	pages := dynamodb.NewQueryPaginator(db, &dynamodb.QueryInput{
		TableName: &table, IndexName: aws.String("due"), KeyConditionExpression: aws.String("wake_shard = :b"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":b": &types.AttributeValueMemberS{Value: "b"}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, it := range page.Items {
			// One that is forgotten meanwhile stays so: the write fails then.
			_, _ = db.UpdateItem(c.t.Context(), &dynamodb.UpdateItemInput{
				TableName: &table, Key: map[string]types.AttributeValue{"pk": it["pk"], "sk": it["sk"]},
				UpdateExpression:    aws.String("SET wake_at = :past"),
				ConditionExpression: aws.String("attribute_exists(wake_at)"), ExpressionAttributeValues: due,
			})
		}
	}
}

// depth returns how many messages a queue holds, seen or not.
func (c *cloud) depth(queue string) string {
	c.t.Helper()
	url := c.resources.Queues[queue]
	const visible = sqstypes.QueueAttributeNameApproximateNumberOfMessages
	out, err := c.queues.GetQueueAttributes(c.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{visible}})
	if err != nil {
		c.t.Fatal(err)
	}
	return out.Attributes[string(visible)]
}
