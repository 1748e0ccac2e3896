package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// DenyWrites forbids a principal, such as "User:connect", to write to topics with
// these names and prefixes. The broker rejects its requests from then on, also
// those that it has received and not handled yet.
func (c *Client) DenyWrites(principal string, topics, prefixes []string) error {
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return fmt.Errorf("deny %s to write: %w", principal, err)
	}
	var all []*sarama.ResourceAcls
	for _, list := range []struct {
		names   []string
		pattern sarama.AclResourcePatternType
	}{{topics, sarama.AclPatternLiteral}, {prefixes, sarama.AclPatternPrefixed}} {
		for _, name := range list.names {
			all = append(all, &sarama.ResourceAcls{
				Resource: sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: name, ResourcePatternType: list.pattern},
				Acls: []*sarama.Acl{{
					Principal: principal, Host: "*", Operation: sarama.AclOperationWrite, PermissionType: sarama.AclPermissionDeny,
				}},
			})
		}
	}
	// The admin is not closed, because that would close c.client.
	err = admin.CreateACLs(all)
	switch {
	case errors.Is(err, sarama.ErrSecurityDisabled):
		return failure.Refuse(failure.Advise(
			fmt.Errorf("deny %s to write: %w", principal, err), "this cluster has no authorizer: leave out --fence-principal"))
	case errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return failure.Refuse(failure.Advise(
			fmt.Errorf("deny %s to write: %w", principal, err),
			"grant the streamer's principal Alter on the cluster, or withdraw Write from %s yourself and leave out --fence-principal", principal))
	case err != nil:
		return fmt.Errorf("deny %s to write: %w", principal, err)
	}
	return nil
}

// FenceOut keeps a producer with a transactional ID out of all partitions of the
// topics, as another producer that takes it over does.
func (c *Client) FenceOut(ctx context.Context, transactionalID string, topics []string) error {
	owner, err := c.TakeOver(ctx, transactionalID)
	if err != nil {
		return fmt.Errorf("fence transactional id %q: %w", transactionalID, err)
	}
	partitions, err := c.Existing(ctx, topics)
	if err == nil {
		err = owner.Fence(ctx, partitions)
	}
	if err != nil {
		return fmt.Errorf("fence transactional id %q: %w", transactionalID, err)
	}
	return nil
}
