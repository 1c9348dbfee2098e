# What has ended is in nobody's hands any more: executors that end many batches between two looks of the dispatcher make it forget
# none of their steps. A step that were in flight for ever would never run again.
use strict;
use warnings;

use TaskerNode;
use Test::More;

my $t = TaskerNode->start('in_flight');
my $tasks = 10_000;
$t->alice(definition('nothing', 'a:-'));
for my $round (1 .. 2) {
  $t->alice("SELECT count(*) FROM tasker.create_tasks('t', 'nothing', array_fill('{}'::jsonb, ARRAY[$tasks]))");
  $t->all_done("round $round: all end", 60);
  $t->sql('SELECT count(tasker.rerun_task_from(task_id, \'a\')) FROM tasker.tasks');
  $t->all_done("round $round: and once more", 60);
  is($t->sql('SELECT count(*), min(moves), max(moves) FROM tasker.workflow_steps'), $round * $tasks . ($round == 1 ? '|5|5' : '|5|8'), "round $round: each has run again");
}
is($t->sql('SELECT * FROM tasker.check()'), '', 'whole');
$t->node->stop;
done_testing();
