int plain_answer(void);
