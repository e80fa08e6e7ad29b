int made_answer(void);
