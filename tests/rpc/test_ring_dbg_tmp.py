from tests.rpc.test_ring_catch_up import *
import tests.rpc.test_ring_catch_up as m
import sys
m.SECONDS = 12.0
def test_dbg(scene, people):
    scene.up()
    import time
    t=time.time()
    try:
        wait_until(scene.has_caught_up, 10)
    except BaseException as e:
        pass
    print("DBG", time.time()-t, scene.feed(), scene.rows("SELECT * FROM feed_cursor"), scene.acknowledged(), scene.rows("SELECT count(*) FROM outbox"), scene.sizes(), scene.visible(), file=sys.stderr)
    print("DBG", scene.record.rows("select position, paths, source from changes order by position desc limit 3"), file=sys.stderr)
    print("DBG", scene.rows("select reason,field,count(*) from outbox group by 1,2"), scene.rows("select reason,field from changes_set_aside"), file=sys.stderr)
