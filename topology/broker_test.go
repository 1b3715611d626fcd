package topology

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/topology/kafka"
)

var quietOnce = sync.OnceFunc(kafka.QuietLibraries)

// emitterBroker starts a broker in this process, with the topic toll.
func emitterBroker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Cluster) {
	t.Helper()
	quietOnce()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1),
		kfake.SeedTopics(4, "toll")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, kafka.Cluster{Brokers: c.ListenAddrs(), ClientID: "test"}
}
