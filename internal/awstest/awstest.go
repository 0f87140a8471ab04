// Package awstest gives tests clients of AWS-compatible servers, and tables and
// queues of their own on them.
//
// The endpoints come from EVENTHOOKS_TEST_DYNAMODB_ENDPOINT,
// EVENTHOOKS_TEST_SQS_ENDPOINT and EVENTHOOKS_TEST_KMS_ENDPOINT; a test that needs one which is not set is
// skipped. `make check` sets them, and so does
//
//	tools/standin/run go test ./internal/...
//
// Test support: imported by _test.go files only.
package awstest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// The variables that name the servers, as base URLs.
const (
	DynamoDBEndpoint = "EVENTHOOKS_TEST_DYNAMODB_ENDPOINT"
	SQSEndpoint      = "EVENTHOOKS_TEST_SQS_ENDPOINT"
	KMSEndpoint      = "EVENTHOOKS_TEST_KMS_ENDPOINT"
)

// Region is the region that the clients sign for.
const Region = "eu-central-1"

// DynamoDB returns a client of the server under test, with credentials that
// are good for nothing else. The test is skipped when there is no server.
func DynamoDB(t testing.TB, options ...func(*dynamodb.Options)) *dynamodb.Client {
	t.Helper()
	o := dynamodb.Options{Region: Region, BaseEndpoint: endpoint(t, DynamoDBEndpoint), Credentials: credentials()}
	return dynamodb.New(o, options...)
}

// SQS returns a client of the server under test, as DynamoDB does.
func SQS(t testing.TB, options ...func(*sqs.Options)) *sqs.Client {
	t.Helper()
	o := sqs.Options{Region: Region, BaseEndpoint: endpoint(t, SQSEndpoint), Credentials: credentials()}
	return sqs.New(o, options...)
}

func endpoint(t testing.TB, variable string) *string {
	t.Helper()
	url := os.Getenv(variable)
	if url == "" {
		t.Skipf("%s is not set: `make check` starts an AWS-compatible server and runs this test against it", variable)
	}
	return &url
}

func credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test", Source: "awstest"}, nil
	})
}

// TTLAttribute is the attribute, Unix seconds, after which both tables forget
// an item.
const TTLAttribute = "expires_at"

// Tables returns the definitions of ConfigTable and StateTable under the given
// names: those of template.yaml, less what only an account needs (recovery,
// encryption, protection).
func Tables(config, state string) []*dynamodb.CreateTableInput {
	attribute := func(name string, kind types.ScalarAttributeType) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: &name, AttributeType: kind}
	}
	key := func(hash, sort string) []types.KeySchemaElement {
		return []types.KeySchemaElement{
			{AttributeName: &hash, KeyType: types.KeyTypeHash},
			{AttributeName: &sort, KeyType: types.KeyTypeRange},
		}
	}
	// Never ALL: that would copy event data into the index.
	including := func(attributes ...string) *types.Projection {
		return &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: attributes}
	}
	const s, n = types.ScalarAttributeTypeS, types.ScalarAttributeTypeN
	return []*dynamodb.CreateTableInput{
		{
			TableName:   &config,
			BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{
				attribute("kind", s), attribute("id", s), attribute("changed", n),
			},
			KeySchema: key("kind", "id"),
			LocalSecondaryIndexes: []types.LocalSecondaryIndex{{
				IndexName:  aws.String("changed"),
				KeySchema:  key("kind", "changed"),
				Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
			}},
		},
		{
			TableName:   &state,
			BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{
				attribute("pk", s), attribute("sk", s), attribute("wake_shard", s), attribute("wake_at", n), attribute("status_key", s),
			},
			KeySchema: key("pk", "sk"),
			GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{
				{IndexName: aws.String("due"), KeySchema: key("wake_shard", "wake_at"), Projection: including("seq", "status", "nudges", "deadline_ms", "reason")},
				{IndexName: aws.String("status"), KeySchema: key("status_key", "sk"), Projection: including("due_ms", "reason", "wake_at", "seq", "nudges", "deadline_ms", "lease_ms")},
			},
		},
	}
}

// CreateTables makes a ConfigTable and a StateTable that nobody else uses, and
// removes them when the test ends.
func CreateTables(t testing.TB, client *dynamodb.Client) (config, state string) {
	t.Helper()
	ctx := t.Context()
	config, state = unique("config"), unique("state")
	for _, in := range Tables(config, state) {
		if _, err := client.CreateTable(ctx, in); err != nil {
			t.Fatalf("create table %s: %v", *in.TableName, err)
		}
		t.Cleanup(func() {
			// The test's own context has ended by now.
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, err := client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: in.TableName}); err != nil {
				t.Errorf("delete table %s: %v", *in.TableName, err)
			}
		})
		if err := dynamodb.NewTableExistsWaiter(client).Wait(ctx, &dynamodb.DescribeTableInput{TableName: in.TableName}, time.Minute); err != nil {
			t.Fatalf("await table %s: %v", *in.TableName, err)
		}
		_, err := client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName:               in.TableName,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(TTLAttribute), Enabled: aws.Bool(true)},
		})
		if err != nil {
			t.Fatalf("set time to live of table %s: %v", *in.TableName, err)
		}
	}
	return config, state
}

// CreateQueue makes a queue that nobody else uses, with attributes named as in
// SQS's CreateQueue (nil: SQS's defaults), and removes it when the test ends.
// It returns the queue's URL.
func CreateQueue(t testing.TB, client *sqs.Client, attributes map[string]string) (url string) {
	t.Helper()
	out, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(unique("queue")), Attributes: attributes})
	if err != nil {
		t.Fatalf("create queue: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl}); err != nil {
			t.Errorf("delete queue: %v", err)
		}
	})
	return *out.QueueUrl
}

// CreateKMSKey makes a symmetric key of KMS that nobody else uses, and returns
// its ARN. The test is skipped when there is no server.
func CreateKMSKey(t testing.TB) (arn string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *endpoint(t, KMSEndpoint), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService.CreateKey")
	// The server looks for the region there, and at nothing else.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20261101/"+Region+"/kms/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("create KMS key: %v", err)
	}
	defer resp.Body.Close()
	var out struct{ KeyMetadata struct{ Arn string } }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.KeyMetadata.Arn == "" {
		t.Fatalf("create KMS key: status %d, %v", resp.StatusCode, err)
	}
	return out.KeyMetadata.Arn
}

// unique returns a name that tables and queues of other tests, in other
// processes on the same server too, do not have.
func unique(what string) string {
	return "test-" + what + "-" + strings.ToLower(rand.Text())
}
