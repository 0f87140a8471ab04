package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"eventhooks/internal/awstest"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// divide gives a deployment more targets than one function is meant for, and
// wants the schedule's run to hand them over in parts, and each to be probed.
func divide(t *testing.T, c *cloud) {
	const upstreams, each = 3, 400 // two of them in one part
	c = c.in(t)
	c.mint()
	var ids []string
	for i := range upstreams {
		// Nobody listens, and nothing is made of it: no events, few writes.
		u := c.http("admin", "POST", "/upstreams", fmt.Sprintf(`{"name":"u%d","healthchecks":{"active":{"type":"tcp","unhealthy":{"tcp_failures":0}}}}`, i), http.StatusCreated)
		ids = append(ids, u["id"].(string))
		c.targets(ids[i], each)
	}
	c.invoke("healthprobe", sample(t, "healthprobe-schedule.json"))
	handed := c.lambda.Wait()
	for _, part := range handed {
		if part.Function != "healthprobe" || part.Err != nil {
			t.Errorf("%s of %s: %v", part.Payload, part.Function, part.Err)
		}
	}
	if len(handed) != 2 {
		t.Errorf("handed over %v; want two parts", handed)
	}
	for _, id := range ids {
		rows := c.http("admin", "GET", "/upstreams/"+id+"/health", "", http.StatusOK)["data"].([]any)
		probed := 0
		for _, row := range rows {
			if row.(map[string]any)["last_probe"] != nil {
				probed++
			}
		}
		if probed != each {
			t.Errorf("%d of %d targets of upstream %s were probed; want all %d", probed, len(rows), id, each)
		}
	}
}

// targets gives an upstream n targets on this machine: one through the API,
// which takes one at a time, and then copies of it.
func (c *cloud) targets(upstreamID string, n int) {
	c.t.Helper()
	db, table := awstest.DynamoDB(c.t), c.resources.Tables["ConfigTable"]
	made := hook.Target{UpstreamID: upstreamID, Weight: 100, CreatedAt: float64(time.Now().Unix())}
	made.ID = c.http("admin", "POST", "/upstreams/"+upstreamID+"/targets", `{"target":"127.0.0.1:1"}`, http.StatusCreated)["id"].(string)
	out, err := db.GetItem(c.t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: map[string]types.AttributeValue{
		"kind": &types.AttributeValueMemberS{Value: hook.KindTarget}, "id": &types.AttributeValueMemberS{Value: made.Key()},
	}})
	if err != nil || out.Item["data"] == nil {
		c.t.Fatalf("read target: %v, %v", out, err)
	}
	var copies []types.WriteRequest
	for port := 2; port <= n; port++ {
		made.ID, made.Target = uuid.NewString(), fmt.Sprintf("127.0.0.1:%d", port)
		r, err := record.Target(made)
		if err != nil {
			c.t.Fatal(err)
		}
		item := maps.Clone(out.Item)
		item["id"], item["data"] = &types.AttributeValueMemberS{Value: r.ID}, &types.AttributeValueMemberS{Value: string(r.Data)}
		copies = append(copies, types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
	}
	for batch := range slices.Chunk(copies, 25) {
		out, err := db.BatchWriteItem(c.t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}})
		if err != nil || len(out.UnprocessedItems) > 0 {
			c.t.Fatalf("write targets: %v, %v", out, err)
		}
	}
}
